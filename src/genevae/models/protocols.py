"""The three parts of a model, and what some of them can do besides."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution, Normal

from genevae.cells import Cells, Condition
from genevae.distributions import ExpressionDistribution

__all__ = ["HasContributions", "HasGeneEmbeddings", "HasLoadings", "Likelihood", "Posterior", "Prior"]


class Posterior(Protocol):
    """q(z | x, c): the latent of a cell, given its expression and condition."""

    def __call__(self, cells: Cells, /) -> Normal:
        """Return the distribution of ``z_nk``."""


class Prior(Protocol):
    """p(z | c): the latent of a cell, given its condition."""

    def __call__(self, condition: Condition, /) -> Distribution:
        """Return the distribution of ``z_nk``; one whose dimensions are dependent has an event of ``k``."""


class Likelihood(Protocol):
    """p(x | z, c): the expression of a cell, given its latent and condition."""

    def __call__(self, z: Tensor, condition: Condition, /) -> ExpressionDistribution:
        """Return the distribution of ``(…, n, g)``, for latents of ``(…, n, k)``."""


@runtime_checkable
class HasGeneEmbeddings(Protocol):
    """A likelihood whose mean (or logit of the proportion) of gene g is v_g · h + b_g, with h the last hidden units."""

    @property
    def gene_embeddings_gh(self) -> Tensor:
        """The vectors v_g."""


@runtime_checkable
class HasLoadings(Protocol):
    """A likelihood whose mean (or logit of the proportion) may be linear in the latent."""

    @property
    def loadings_gk(self) -> Tensor | None:
        """The weight of each latent dimension for each gene; None where it is not linear."""


@runtime_checkable
class HasContributions(Protocol):
    """A model whose expected expression is a sum of contributions."""

    def contributions(self, z: Tensor, condition: Condition) -> dict[str, Tensor]:
        """Return the contribution ``(…, n, g)`` of each covariate by name, and of the ``base``."""
