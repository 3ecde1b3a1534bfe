"""The image generator, its encoder, its latent space and its checkpoints."""
