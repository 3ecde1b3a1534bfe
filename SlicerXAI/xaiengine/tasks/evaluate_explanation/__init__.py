"""The task evaluate-explanation: its options, and how its results are written."""
