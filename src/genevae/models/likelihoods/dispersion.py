"""The inverse dispersion θ of a negative binomial: shared by all cells, by a category's, or by none."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genevae.cells import Condition

__all__ = ["PerCell", "PerGene", "PerGeneCategory"]

SPEED = 10.0
"""log θ is this many times what is learned. An optimiser moves every number by about the learning rate in a step, and
log θ has further to go than a weight: in the few hundred steps that small data allow it would stay where it started."""
LOG_LIMIT = 13.8
"""|log θ| is kept below this, so that θ lies between 1e-6 and 1e6."""


def _positive(log_theta: Tensor) -> Tensor:
    return log_theta.clamp(-LOG_LIMIT, LOG_LIMIT).exp()


def _learned(tenth: Tensor) -> Tensor:
    return _positive(SPEED * tenth)


class PerGene(nn.Module):
    """One θ per gene, started at one."""

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.log_theta_tenth_g = nn.Parameter(torch.zeros(n_genes))

    def forward(self, h: Tensor, condition: Condition) -> Tensor:  # noqa: ARG002 - the same for every cell
        """Return ``theta_g``."""
        return _learned(self.log_theta_tenth_g)


class PerGeneCategory(nn.Module):
    """One θ per gene and category of one field, started at one."""

    def __init__(self, n_genes: int, field: str, n_categories: int) -> None:
        super().__init__()
        self.field = field
        self.log_theta_tenth_cg = nn.Parameter(torch.zeros(n_categories, n_genes))

    def forward(self, h: Tensor, condition: Condition) -> Tensor:  # noqa: ARG002 - a function of the field alone
        """Return ``theta_ng``."""
        return _learned(self.log_theta_tenth_cg)[condition.codes[self.field]]


class PerCell(nn.Module):
    """One θ per cell and gene, log-linear in the decoder's hidden units."""

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__()
        self.log_theta = nn.Linear(n_hidden, n_genes)

    def forward(self, h: Tensor, condition: Condition) -> Tensor:  # noqa: ARG002 - h already knows the condition
        """Map ``(…, n, h)`` to ``(…, n, g)``."""
        return _positive(self.log_theta(h))
