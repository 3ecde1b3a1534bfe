"""Directions in latent space along which a prediction changes."""
