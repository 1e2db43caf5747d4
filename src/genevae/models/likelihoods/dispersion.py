"""The inverse dispersion θ of a negative binomial: per gene, per gene and category, or per gene and cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions.deferred import Gathered

__all__ = ["PerCell", "PerGene", "PerGeneCategory"]

SPEED = 10.0
"""log θ is the parameter times this. An optimiser changes every parameter by about the learning rate per step, but
log θ has a larger range than a weight: in the few hundred steps of small data it would stay near its initial value."""
LOG_LIMIT = 13.8
"""Limit of |log θ|, so that θ is between 1e-6 and 1e6."""


def _positive(log_theta: Tensor) -> Tensor:
    return F.hardtanh(log_theta, -LOG_LIMIT, LOG_LIMIT).exp()


class _Learned(nn.Module):
    """A θ that is a parameter of its own."""

    speed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("speed", torch.tensor(SPEED), persistent=False)

    def _theta(self, tenth: Tensor) -> Tensor:
        return _positive(self.speed * tenth)


class PerGene(_Learned):
    """One θ per gene, initially one."""

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.log_theta_tenth_g = nn.Parameter(torch.zeros(n_genes))

    def forward(self, h: Tensor, condition: Condition) -> Tensor:  # noqa: ARG002 - the same for every cell
        """Return ``theta_g``."""
        return self._theta(self.log_theta_tenth_g)


class PerGeneCategory(_Learned):
    """One θ per gene and category of one field, initially one."""

    def __init__(self, n_genes: int, field: str, n_categories: int) -> None:
        super().__init__()
        self.field = field
        self.log_theta_tenth_cg = nn.Parameter(torch.zeros(n_categories, n_genes))

    def forward(self, h: Tensor, condition: Condition) -> Gathered:  # noqa: ARG002 - a function of the field alone
        """Return ``theta_ng``."""
        return Gathered(self._theta(self.log_theta_tenth_cg), condition.codes[self.field])


class PerCell(nn.Module):
    """One θ per cell and gene, log-linear in the hidden units of the decoder."""

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__()
        self.log_theta = nn.Linear(n_hidden, n_genes)

    def forward(self, h: Tensor, condition: Condition) -> Tensor:  # noqa: ARG002 - h depends on the condition
        """Map ``(…, n, h)`` to ``(…, n, g)``."""
        return _positive(self.log_theta(h))
