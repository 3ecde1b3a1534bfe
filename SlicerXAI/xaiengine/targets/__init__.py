"""Which number of a model's output is explained."""
