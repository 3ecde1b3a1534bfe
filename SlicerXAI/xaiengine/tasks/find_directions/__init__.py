"""The task find-directions: its options, and how its results are written."""
