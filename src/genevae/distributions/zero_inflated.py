"""Zero inflation of any distribution of counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from genevae.cells import ExpressionRows
from genevae.distributions.expression import ExpressionDistribution
from genevae.distributions.fused import softmax_log_prob_n
from genevae.distributions.negative_binomial import NegativeBinomial

__all__ = ["ZeroInflated"]


class ZeroInflated(ExpressionDistribution):
    """Zero with probability π, else a count from the base: p(x) = π·[x = 0] + (1−π)·p_base(x).

    Parameters
    ----------
    base
        Any distribution of counts.
    gate_logits
        log π/(1−π), the logit of the zero-inflation probability; −∞ leaves the base unchanged.

    References
    ----------
    Lambert, Technometrics 34:1 (1992).

    Examples
    --------
    >>> from genevae.distributions import Poisson
    >>> ZeroInflated(Poisson(torch.tensor(4.0)), torch.tensor(0.0)).mean
    tensor(2.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"gate_logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, base: ExpressionDistribution, gate_logits: Tensor, validate_args: bool | None = None) -> None:
        self.base = base
        self.gate_logits = gate_logits
        super().__init__(*base.given, gate_logits, validate_args=validate_args)

    @property
    def gate(self) -> Tensor:
        """π, the zero-inflation probability."""
        return torch.sigmoid(self.gate_logits)

    @property
    def mean(self) -> Tensor:
        """Expected count: (1−π) × the base's."""
        return (1 - self.gate) * self.base.mean

    @property
    def variance(self) -> Tensor:
        """Variance of the count: (1−π)·(variance + π·mean²) of the base."""
        return (1 - self.gate) * (self.base.variance + self.gate * self.base.mean.square())

    def log_prob_zero(self) -> Tensor:
        """Log p(0) = log(π + (1−π) p_base(0))."""
        return torch.logaddexp(self.gate_logits, self.base.log_prob_zero()) - F.softplus(self.gate_logits)

    def log_ratio(self, x: Tensor) -> Tensor:
        """Log p(x) − log p(0): that of the base, minus the log-odds that a zero comes from the gate."""
        zero = self.base.log_prob_zero()
        excess = F.softplus(self.gate_logits - zero.to(self.base.ratio_dtype or zero.dtype))
        return self.base.log_ratio(x) - torch.where(x > 0, excess, torch.zeros_like(excess))

    def log_prob_n(self, rows: ExpressionRows, measured_ng: Tensor | None = None) -> Tensor:
        """Log p(x) of each cell, ``(…, n)``; in one compiled pass where the mean is that of a softmax."""
        fused_n = None
        if isinstance(self.base, NegativeBinomial):
            mean, theta = self.base.given
            fused_n = softmax_log_prob_n(rows, measured_ng, mean, theta, self.gate_logits)
        return super().log_prob_n(rows, measured_ng) if fused_n is None else fused_n

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every parameter, also of the base. The results are not validated."""
        return type(self)(self.base.map(function), function(self.gate_logits), validate_args=False)

    def scaled(self, factor: Tensor) -> Self:
        """Return a distribution whose base has the mean times a factor."""
        return type(self)(self.base.scaled(factor), self.gate_logits, validate_args=False)

    def cdf(self, value: Tensor) -> Tensor:
        """P(X ≤ x) = π + (1−π) P_base(X ≤ x), for x ≥ 0."""
        inflated = self.gate + (1 - self.gate) * self.base.cdf(value)
        return torch.where(value < 0, torch.zeros_like(inflated), inflated)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Sample counts."""
        x = self.base.expand(self.batch_shape).sample(sample_shape)
        return torch.where(torch.rand_like(x) < self._expand_to(self.gate, sample_shape), torch.zeros_like(x), x)
