"""The task train-generator: its options, and how its results are written."""
