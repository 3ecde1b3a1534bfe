"""Series of counterfactual images and what is measured on them."""
