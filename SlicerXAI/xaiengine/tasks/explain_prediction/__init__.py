"""The task explain-prediction: its options, and how its results are written."""
