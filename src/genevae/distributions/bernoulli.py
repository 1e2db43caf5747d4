"""Bernoulli values: a gene is seen or not."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genevae.distributions.expression import ExpressionDistribution

__all__ = ["Bernoulli"]


class Bernoulli(ExpressionDistribution):
    """One with probability σ(logits), else zero: log p(x) = x·logits − log(1 + e^logits).

    Parameters
    ----------
    logits
        The log-odds of one. Values between zero and one are scored by the same formula (binary cross-entropy).

    Examples
    --------
    >>> Bernoulli(torch.tensor(0.0)).mean
    tensor(0.5000)
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits)
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        """Probability of one."""
        return torch.sigmoid(self.logits)

    @property
    def variance(self) -> Tensor:
        """P (1 − p)."""
        return self.mean * (1 - self.mean)

    def log_prob_zero(self) -> Tensor:
        """Log p(0) = −log(1 + e^logits)."""
        return -F.softplus(self.logits)

    def log_ratio(self, x: Tensor) -> Tensor:
        """Log p(x) − log p(0) = x·logits."""
        return x * self.logits

    def cdf(self, value: Tensor) -> Tensor:
        """P(X ≤ x): a step at zero and one at one."""
        steps = torch.where(value >= 1, torch.ones_like(self.mean), 1 - self.mean)
        return torch.where(value < 0, torch.zeros_like(steps), steps)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw zeros and ones."""
        return torch.bernoulli(self._drawn(self.mean, sample_shape))
