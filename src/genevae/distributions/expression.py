"""The base class of all distributions of expression: a log-probability in two parts, exact on sparse rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from genevae.cells import ExpressionRows
from genevae.distributions.deferred import Deferred, tensor_of

__all__ = ["ExpressionDistribution", "pick"]

MAX_RANK = 1 - 1e-12
MAX_COUNT = 2.0**40


class ExpressionDistribution(Distribution):
    r"""Independent distributions of ``x``, one per cell and gene.

    A subclass defines two terms, and is then exact on dense and on sparse rows:

    .. math:: \log p(x) = \underbrace{\log p(0)}_{\texttt{log\_prob\_zero}}
              + \underbrace{\log p(x) - \log p(0)}_{\texttt{log\_ratio}(x)}

    The second term is zero at x = 0, so sparse rows need it at their stored entries only.

    Parameters
    ----------
    parameters
        Tensors that broadcast to ``(…, n, g)``, in the order of the subclass's constructor; or what makes one when it
        is used.
    validate_args
        Whether to check the parameters here, and values in :meth:`log_prob`; by default as in ``torch.distributions``.

    Raises
    ------
    ValueError
        If arguments are validated and a parameter is invalid. The message names the parameter.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    ratio_dtype: ClassVar[torch.dtype | None] = None
    """Precision of :meth:`log_ratio`, if it is not that of the parameters."""

    def __init__(self, *parameters: Tensor | Deferred, validate_args: bool | None = None) -> None:
        self.given = parameters
        shapes = [parameter.shape for parameter in parameters]
        # NumPy's takes 5 µs and torch's 130, of each step.
        is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        broadcast = torch.broadcast_shapes if is_traced else np.broadcast_shapes
        super().__init__(batch_shape=torch.Size(broadcast(*shapes)), validate_args=validate_args)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameters as tensors."""
        return tuple(map(tensor_of, self.given))

    def log_prob_zero(self) -> Tensor:
        """Log p(0) of every cell and gene."""
        raise NotImplementedError

    def log_ratio(self, x: Tensor) -> Tensor:
        """Log p(x) − log p(0); zero where x is zero."""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(x) of every cell and gene, for a dense ``x``."""
        if self._validate_args:
            self._validate_sample(value)
        zero = self.log_prob_zero()
        return (zero + self.log_ratio(value)).to(zero.dtype)

    def log_prob_n(self, rows: ExpressionRows, measured_ng: Tensor | None = None) -> Tensor:
        """Log p(x) of each cell: the sum over genes, ``(…, n)``.

        Parameters
        ----------
        rows
            ``x_ng``, dense or sparse. The results agree to rounding.
        measured_ng
            Which entries were measured; all by default. Other entries, which are zero in ``rows``, do not count.
        """
        if not rows.is_sparse:
            return _sum_measured(self.log_prob(rows.dense()), measured_ng)
        zero, ratio_e = self.log_prob_zero().expand(self.batch_shape), self.at(rows).log_ratio(rows.values)
        zero_n = _sum_measured(zero, measured_ng, ratio_e.dtype)
        return (zero_n + rows.sum_n(ratio_e)).to(zero.dtype)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every parameter. The results are not validated."""
        return type(self)(*map(function, self.parameters), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """Return the same distribution with a larger batch shape, without copying parameters."""
        expanded = self.map(lambda parameter: parameter.expand(torch.Size(batch_shape)))
        expanded._validate_args = self._validate_args
        return expanded

    def at(self, rows: ExpressionRows) -> Self:
        """Return the distributions of the stored entries of sparse rows, ``(…, e)``."""
        return self.map(lambda parameter: pick(parameter, rows))

    def scaled(self, factor: Tensor) -> Self:
        """Return a distribution of counts with the mean times a factor, and all else the same."""
        mean, *others = self.parameters
        return type(self)(mean * factor.to(mean), *others, validate_args=False)

    def cdf(self, value: Tensor) -> Tensor:
        """P(X ≤ x)."""
        raise NotImplementedError

    def icdf(self, value: Tensor) -> Tensor:
        """Return the smallest x with P(X ≤ x) ≥ value, without gradient, for 0 ≤ value < 1.

        For counts: zero is tried first, since most entries of expression are zero; then a power of two that is large
        enough is found, and bisected.
        """
        value, log_zero = torch.broadcast_tensors(value.detach().double(), self.map(_exact).log_prob_zero())
        x = torch.zeros_like(value)
        above = value > log_zero.exp()
        if above.any():
            above_zero = self.map(lambda parameter: _exact(parameter).expand(value.shape)[above])
            x[above] = _smallest_count(above_zero, value[above])
        return x.to(self.parameters[0].dtype)

    def quantile_map(self, x: Tensor, target: ExpressionDistribution, uniform: Tensor | None = None) -> Tensor:
        r"""Map x to the value of the same rank in another distribution.

        .. math:: x' = F_\text{target}^{-1}(u), \quad u \sim U\bigl(F(x - 1),\, F(x)\bigr]

        A count has a range of ranks, from which one is sampled. If both distributions are the same, x' = x. If x
        follows this distribution, x' follows the target, and keeps the noise of x. Ranks above 1 − 10⁻¹² are too close
        to distinguish: there x is scaled by the ratio of the means.

        Parameters
        ----------
        x
            Values, of the distribution's shape.
        target
            The other distribution.
        uniform
            Where each rank is within its range, from 0 to 1; sampled by default.

        References
        ----------
        Pearl, *Causality*, 2nd ed. (2009), 7.1: abduction, action, prediction.
        """
        exact, x = self.map(_exact), x.double()
        below, upto = exact.cdf(x - 1), exact.cdf(x)
        uniform = torch.rand_like(x) if uniform is None else uniform
        rank = upto - uniform * (upto - below)
        by_ratio = (x * (target.mean / self.mean)).round().to(target.mean)
        return torch.where(rank > MAX_RANK, by_ratio, target.icdf(rank.clamp(max=MAX_RANK)))

    def within(self, x: Tensor, limit: Tensor) -> Tensor:
        """Return samples of which those above a limit are sampled again, given that they are not above it.

        The result follows the distribution truncated at the limit.

        Parameters
        ----------
        x
            Samples of counts from this distribution.
        limit
            The largest count, which broadcasts to the shape of x.
        """
        limit = limit.expand(x.shape)
        above = x > limit
        if not above.any():
            return x
        part = self.map(lambda parameter: _exact(parameter).expand(x.shape)[above])
        highest = limit[above].double()
        again = part.icdf(torch.rand_like(highest) * part.cdf(highest))
        return x.masked_scatter(above, torch.minimum(again, highest).to(x.dtype))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Sample values, without gradient."""
        raise NotImplementedError

    def _expand_to(self, parameter: Tensor, sample_shape: Any) -> Tensor:
        """Expand a parameter to the shape of a sample, without gradient."""
        return parameter.detach().expand(torch.Size(sample_shape) + self.batch_shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(str(tuple(p.shape)) for p in self.given)})"


def _exact(parameter: Tensor) -> Tensor:
    return parameter.detach().double()


def _smallest_count(p: ExpressionDistribution, value_e: Tensor) -> Tensor:
    """Return the smallest count with P(X ≤ x) ≥ value, for values above P(X = 0)."""
    low_e, high_e = torch.zeros_like(value_e), torch.ones_like(value_e)
    while (short_e := (p.cdf(high_e) < value_e) & (high_e < MAX_COUNT)).any():
        low_e, high_e = torch.where(short_e, high_e, low_e), torch.where(short_e, 2 * high_e, high_e)
    while (high_e - low_e > 1).any():
        middle_e = ((low_e + high_e) / 2).floor()
        enough_e = p.cdf(middle_e) >= value_e
        low_e, high_e = torch.where(enough_e, low_e, middle_e), torch.where(enough_e, middle_e, high_e)
    return high_e


def _sum_measured(log_prob: Tensor, measured_ng: Tensor | None, dtype: torch.dtype | None = None) -> Tensor:
    """Sum over the genes that were measured, in a precision."""
    return (log_prob if measured_ng is None else log_prob.masked_fill(~measured_ng, 0)).sum(-1, dtype=dtype)


def pick(parameter: Tensor, rows: ExpressionRows) -> Tensor:
    """Return a parameter at the stored entries of sparse rows.

    Parameters
    ----------
    parameter
        Broadcasts to ``(…, n, g)``: one number, one per gene ``(g,)``, one per cell ``(n, 1)``, or one per entry.
    rows
        Sparse rows.

    Returns
    -------
    Tensor
        ``(…, e)``, or a single number.
    """
    if parameter.ndim == 0 or rows.gene_e is None:
        return parameter
    per_gene, per_cell = parameter.shape[-1] > 1, parameter.ndim > 1 and parameter.shape[-2] > 1
    if per_gene and per_cell:
        return _PickEntries.apply(parameter, rows.flat_e)  # type: ignore[no-any-return,no-untyped-call]
    if per_cell:
        return parameter.squeeze(-1).index_select(-1, rows.cell_e)
    if parameter.ndim > 1:
        parameter = parameter.squeeze(-2)
    return parameter.index_select(-1, rows.gene_e) if per_gene else parameter


class _PickEntries(torch.autograd.Function):
    """Entries of a dense matrix by flat index, each index at most once.

    Since indices are unique, the backward pass can write instead of add, which plain indexing cannot.
    """

    @staticmethod
    def forward(ctx: Any, dense: Tensor, flat_e: Tensor) -> Tensor:
        ctx.shape = dense.shape
        ctx.save_for_backward(flat_e)
        return dense.flatten(-2).index_select(-1, flat_e)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (flat_e,) = ctx.saved_tensors
        dense = grad.new_zeros(*ctx.shape[:-2], ctx.shape[-2] * ctx.shape[-1])
        return dense.index_copy_(-1, flat_e, grad).view(ctx.shape), None
