"""System B: bulk expression, of which some is hidden in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genevae.data.schema import Schema
from genevae.errors import RecipeError
from genevae.models.posterior import MLPPosterior
from genevae.objectives.masking import GeneMask
from genevae.objectives.objective import Objective
from genevae.recipes.gaussian import Gaussian

__all__ = ["Bulk", "BulkLarge"]


@dataclass(frozen=True, kw_only=True)
class Bulk(Gaussian):
    """β-VAE of standardised log expression of bulk samples, with ELU layers; each step hides genes and asks for them.

    Parameters
    ----------
    mask_low, mask_high
        The share of the entries that a step hides from the posterior is drawn uniformly between these. The loss asks
        for all of them back. A hidden gene enters as its mean, which is zero once genes are standardised; without
        ``standardise``, as a number that is learned for it.
    """

    n_latent: int = 32
    hidden: tuple[int, ...] = (512,)
    activation: str = "elu"
    dropout: float = 0.3
    target_size: float = 1e6
    standardise: bool = True
    beta: float = 0.1
    beta_schedule: Literal["linear", "cosine", "exponential", "cyclic"] = "cyclic"
    beta_ramp: float = 0.5
    beta_decay: float = 0.8
    batch_size: int = 32
    weight_decay: float = 1e-4
    epsilon: float = 1e-8
    mask_low: float = 0.05
    mask_high: float = 0.25

    def _require_shares(self) -> None:
        super()._require_shares()
        if not 0 <= self.mask_low <= self.mask_high < 1:
            raise RecipeError(
                f"mask_low and mask_high are shares, the first not above the second, and cannot be {self.mask_low} "
                f"and {self.mask_high}."
            )

    def objective(self, schema: Schema, n_epochs: int) -> Objective:
        """Make the bound of all genes, given some of them."""
        return self.elbo(schema, n_epochs, self.mask)

    @property
    def mask(self) -> GeneMask | None:
        """What hides genes, where any are to be hidden."""
        return GeneMask(self.mask_low, self.mask_high) if self.mask_high else None

    def _posterior(self, schema: Schema, n_latent: int) -> MLPPosterior:
        learned = schema.missing or (self.mask_high > 0 and not self.standardise)
        return super()._posterior(schema.with_genes(schema.genes, missing=learned), n_latent)


@dataclass(frozen=True, kw_only=True)
class BulkLarge(Bulk):
    """As bulk, with five hidden layers 4096-2048-1024-512-256: as trained on 20,000 genes of 17,000 samples."""

    n_latent: int = 128
    hidden: tuple[int, ...] = (4096, 2048, 1024, 512, 256)
    batch_size: int = 128
