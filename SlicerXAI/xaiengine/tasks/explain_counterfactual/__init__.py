"""The task explain-counterfactual: its options, and how its results are written."""
