"""The normal distribution, for data that are not counts."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from genevae.distributions.expression import ExpressionDistribution

__all__ = ["Normal"]


class Normal(ExpressionDistribution):
    """Normal values: log p(x) = −½((x−μ)/σ)² − log σ − ½ log 2π.

    Parameters
    ----------
    mean
        μ, in the units of the data.
    scale
        σ > 0, the standard deviation.

    Examples
    --------
    >>> Normal(torch.tensor(1.0), torch.tensor(1.0)).cdf(torch.tensor(1.0))
    tensor(0.5000)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"mean": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(self, mean: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self._mean = mean
        self.scale = scale
        super().__init__(mean, scale, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Expected value."""
        return self._mean.expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """σ²."""
        return self.scale.square().expand(self.batch_shape)

    def log_prob_zero(self) -> Tensor:
        """Log p(0)."""
        return -0.5 * (self._mean / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def log_ratio(self, x: Tensor) -> Tensor:
        """Log p(x) − log p(0) = x (2μ − x) / 2σ²."""
        return x * (2 * self._mean - x) / (2 * self.scale.square())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(x) of a dense ``x``, in one term, because the two terms would cancel far from zero."""
        if self._validate_args:
            self._validate_sample(value)
        standard = (value - self._mean) / self.scale
        return -0.5 * standard.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def cdf(self, value: Tensor) -> Tensor:
        """P(X ≤ x) = Φ((x−μ)/σ)."""
        below: Tensor = torch.special.ndtr((value - self._mean) / self.scale)
        return below

    def icdf(self, value: Tensor) -> Tensor:
        """Return μ + σ Φ⁻¹(value)."""
        standard: Tensor = torch.special.ndtri(value)
        return self._mean + self.scale * standard

    def quantile_map(self, x: Tensor, target: ExpressionDistribution, uniform: Tensor | None = None) -> Tensor:  # noqa: ARG002 - values have one rank
        """Map x to the value of the same rank in another normal distribution: μ' + (x − μ) σ'/σ."""
        return target.mean + (x - self._mean) * target.stddev / self.scale

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Sample values."""
        return torch.normal(self._expand_to(self._mean, sample_shape), self._expand_to(self.scale, sample_shape))
