"""Counterfactual images: a generator of the modality, latents of scans, directions, series."""
