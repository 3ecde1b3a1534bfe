"""The task fit-reference: its options, and how its results are written."""
