"""The Poisson distribution of counts."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from genevae.cells import ExpressionRows
from genevae.distributions.deferred import Deferred, tensor_of
from genevae.distributions.expression import ExpressionDistribution
from genevae.distributions.fused import softmax_log_prob_n

__all__ = ["Poisson"]


class Poisson(ExpressionDistribution):
    """Counts whose variance equals their mean: p(x) = μˣ e^(−μ) / x!.

    Parameters
    ----------
    mean
        μ ≥ 0, in counts.

    Examples
    --------
    >>> Poisson(torch.tensor(2.0)).log_prob(torch.tensor(0.0))
    tensor(-2.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"mean": constraints.nonnegative}
    support = constraints.nonnegative_integer
    ratio_dtype = torch.float64

    def __init__(self, mean: Tensor | Deferred, validate_args: bool | None = None) -> None:
        super().__init__(mean, validate_args=validate_args)

    @property
    def _mean(self) -> Tensor:
        return tensor_of(self.given[0])

    @property
    def mean(self) -> Tensor:
        """Expected count."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Variance of the count: the mean."""
        return self._mean

    def log_prob_zero(self) -> Tensor:
        """Log p(0) = −μ."""
        return -self._mean

    def log_ratio(self, x: Tensor) -> Tensor:
        """Log p(x) − log p(0) = x log μ − log x!, in double precision.

        Both terms are of size x log x, and nearly cancel with each other and with μ: in float32, a count of 100,000
        would be wrong by 0.1 nats.
        """
        x = x.double()
        return torch.xlogy(x, self._mean.double()) - torch.lgamma(x + 1)

    def log_prob_n(self, rows: ExpressionRows, measured_ng: Tensor | None = None) -> Tensor:
        """Log p(x) of each cell, ``(…, n)``; in one compiled pass where the mean is that of a softmax."""
        fused_n = softmax_log_prob_n(rows, measured_ng, *self.given)
        return super().log_prob_n(rows, measured_ng) if fused_n is None else fused_n

    def cdf(self, value: Tensor) -> Tensor:
        """P(X ≤ x) = Q(⌊x⌋ + 1, μ), the regularised upper incomplete gamma function."""
        floor = value.floor()
        below = torch.special.gammaincc(floor.clamp(min=0) + 1, self._mean)
        return torch.where(floor < 0, torch.zeros_like(below), below)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Sample counts."""
        return torch.poisson(self._expand_to(self._mean, sample_shape))
