"""The task explain-segmentation: its options, and how its results are written."""
