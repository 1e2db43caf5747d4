"""The negative binomial distribution of counts."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints

from genevae.cells import ExpressionRows
from genevae.distributions.deferred import Deferred, tensor_of
from genevae.distributions.expression import ExpressionDistribution, pick
from genevae.distributions.fused import softmax_log_prob_n
from genevae.distributions.lgamma_difference import TINY, LGammaDifference, LogCoefficient, log_power

__all__ = ["NegativeBinomial"]


class NegativeBinomial(ExpressionDistribution):
    r"""Counts with more variance than Poisson: variance = μ + μ²/θ.

    .. math:: p(x) = \frac{Γ(x+θ)}{Γ(θ)\,x!} \left(\frac{θ}{θ+μ}\right)^θ \left(\frac{μ}{θ+μ}\right)^x

    A gamma mixture of Poissons: x ~ Poisson(λ), λ ~ Gamma(shape θ, mean μ). As θ → ∞ it becomes Poisson.

    Parameters
    ----------
    mean
        μ ≥ 0, in counts.
    inverse_dispersion
        θ > 0.

    References
    ----------
    Hilbe, *Negative Binomial Regression*, 2nd ed. (2011), the NB2 parameterisation.

    Examples
    --------
    >>> counts = NegativeBinomial(torch.tensor(3.0), torch.tensor(1.5))
    >>> counts.variance
    tensor(9.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "mean": constraints.nonnegative,
        "inverse_dispersion": constraints.positive,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self, mean: Tensor | Deferred, inverse_dispersion: Tensor | Deferred, validate_args: bool | None = None
    ) -> None:
        super().__init__(mean, inverse_dispersion, validate_args=validate_args)

    @property
    def _mean(self) -> Tensor:
        return tensor_of(self.given[0])

    @property
    def inverse_dispersion(self) -> Tensor:
        """θ."""
        return tensor_of(self.given[1])

    @property
    def mean(self) -> Tensor:
        """Expected count."""
        return self._mean.expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """Variance of the count: μ + μ²/θ."""
        return self._mean + self._mean.square() / self.inverse_dispersion

    def log_prob_zero(self) -> Tensor:
        """Log p(0) = −θ log(1 + μ/θ)."""
        return -self.inverse_dispersion * torch.log1p(self._mean / self.inverse_dispersion)

    def log_ratio(self, x: Tensor) -> Tensor:
        """Log p(x) − log p(0) = x log(μ/(θ+μ)) + log Γ(x+θ) − log Γ(θ) − log x!."""
        return log_power(x, self._mean, self.inverse_dispersion) + LogCoefficient.apply(x, self.inverse_dispersion)  # type: ignore[no-untyped-call,no-any-return]

    def log_prob_n(self, rows: ExpressionRows, measured_ng: Tensor | None = None) -> Tensor:
        """Log p(x) of each cell, ``(…, n)``; for sparse rows with all genes measured, by the function below.

        Where the mean is that of a softmax, one compiled pass does all, also for dense rows; see
        :func:`softmax_log_prob_n`.
        """
        if (fused_n := softmax_log_prob_n(rows, measured_ng, *self.given)) is not None:
            return fused_n
        if not rows.is_sparse or self._mean.shape != self.batch_shape or measured_ng is not None:
            return super().log_prob_n(rows, measured_ng)
        return _SparseLogProb.apply(self._mean, self.inverse_dispersion, rows)  # type: ignore[no-untyped-call,no-any-return]

    def cdf(self, value: Tensor) -> Tensor:
        """P(X ≤ x) = I_p(θ, ⌊x⌋ + 1) with p = θ/(θ+μ), by SciPy, without gradient."""
        from scipy.special import betainc

        theta, mean = (t.detach().double().cpu().numpy() for t in (self.inverse_dispersion, self._mean))
        floor = value.detach().double().floor().cpu().numpy()
        below = betainc(theta, floor.clip(min=0) + 1, theta / (theta + mean)) * (floor >= 0)
        return torch.as_tensor(below, dtype=self._mean.dtype, device=self._mean.device)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw counts, through the gamma mixture."""
        theta = self._expand_to(self.inverse_dispersion, sample_shape)
        mean = self._expand_to(self._mean, sample_shape)
        return torch.poisson(torch._standard_gamma(theta) * (mean / theta))


class _SparseLogProb(torch.autograd.Function):
    """Log p(x) of each cell with its gradient, in as few passes as possible.

    The dense term, −θ log(1 + μ/θ), is computed at all n × g entries; the log-ratio at the stored entries only.
    """

    @staticmethod
    def forward(ctx: Any, mean_ng: Tensor, theta: Tensor, rows: ExpressionRows) -> Tensor:
        mean_e, theta_e = pick(mean_ng, rows).clamp(min=TINY), pick(theta, rows)
        odds_ng = mean_ng.contiguous() / theta  # the backward pass adds into flattened views
        log_odds_ng = torch.log1p(odds_ng)
        zero_n = log_odds_ng @ theta if _is_per_gene(theta, rows) else (log_odds_ng * theta).sum(-1)
        difference = LGammaDifference(rows, theta, theta_e)
        ratio_e = difference.log_ratio(mean_e)
        ctx.rows, ctx.difference = rows, difference
        ctx.save_for_backward(theta, odds_ng, log_odds_ng, mean_e, theta_e)
        return rows.sum_n(ratio_e) - zero_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_n: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        theta, odds_ng, log_odds_ng, mean_e, theta_e = ctx.saved_tensors
        rows: ExpressionRows = ctx.rows
        grad_e = grad_n.index_select(-1, rows.cell_e)
        share_e = grad_e * rows.values / (theta_e + mean_e)
        shrink_ng = (1 + odds_ng).reciprocal_()  # θ/(θ+μ)
        grad_mean = grad_theta = None
        if ctx.needs_input_grad[1]:
            slope_ng = torch.rsub(shrink_ng, 1).sub_(log_odds_ng)  # μ/(θ+μ) − log(1 + μ/θ)
            grad_theta = _to_shape(grad_n, slope_ng, grad_e * ctx.difference.digamma() - share_e, theta, rows)
        if ctx.needs_input_grad[0]:
            grad_mean = shrink_ng.mul_(-grad_n.unsqueeze(-1))
            _add_entries(grad_mean, rows, share_e * theta_e / mean_e)
        return grad_mean, grad_theta, None


def _to_shape(grad_n: Tensor, slope_ng: Tensor, slope_e: Tensor, theta: Tensor, rows: ExpressionRows) -> Tensor:
    """Sum the dense and sparse terms of a gradient to the shape of its parameter."""
    if _is_per_gene(theta, rows):  # a matrix-vector product, and a sum over few entries
        dense_g = grad_n.flatten() @ slope_ng.flatten(0, -2)
        return dense_g.index_add_(0, rows.csr()[1], slope_e.sum_to_size(slope_e.shape[-1:]))
    full = (grad_n.unsqueeze(-1) * slope_ng).contiguous()
    _add_entries(full, rows, slope_e)
    return full.sum_to_size(theta.shape)


def _is_per_gene(theta: Tensor, rows: ExpressionRows) -> bool:
    return theta.shape == (rows.n_genes,)


def _add_entries(dense: Tensor, rows: ExpressionRows, entries: Tensor) -> None:
    """Add values at the stored entries to a dense ``(…, n, g)``, in place. Each entry occurs once."""
    dense.view(*dense.shape[:-2], -1).scatter_add_(-1, rows.flat_e.expand(entries.shape), entries)
