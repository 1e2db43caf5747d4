"""System A: a large conditional VAE of log-normalised expression for cell type × perturbation × experiment."""

from __future__ import annotations

from dataclasses import dataclass

from genevae.recipes.gaussian import Gaussian

__all__ = ["Conditional"]


@dataclass(frozen=True, kw_only=True)
class Conditional(Gaussian):
    """Gaussian CVAE with embeddings 32/32/16 (cell type, perturbation, experiment), hidden 512-256, latent 128.

    It is trained to do without labels too, so that it can embed cells of unknown type, and infer the type.
    """

    n_latent: int = 128
    hidden: tuple[int, ...] = (512, 256)
    embedding_widths: tuple[int, ...] = (32, 32, 16)
    category_dropout: float = 0.1
