"""What the latent holds."""
