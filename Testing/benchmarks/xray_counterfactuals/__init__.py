"""What the benchmark of counterfactual images is made of."""
