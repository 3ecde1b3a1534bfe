"""The task dissect: its options, and how its results are written."""
