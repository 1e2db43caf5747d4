"""Posteriors, priors and likelihoods, and the VAE that joins them. Every forward returns a distribution."""
