"""The task quantify-lesions: its options, and how its results are written."""
