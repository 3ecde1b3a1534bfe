"""The task explain-semantics: its options, and how its results are written."""
