"""Posteriors: q(z | x, c), the latent of a cell given its expression and condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from genevae.cells import Cells, Shard
from genevae.nn.conditioning import Conditioning
from genevae.nn.linear import RowsLinear
from genevae.nn.mlp import MLP, LayerStyle

__all__ = ["LIMIT", "HeadNormal", "MLPPosterior", "NormalHead"]


LIMIT = 10.0
"""|log variance| of a normal head is kept below this: standard deviations are between 0.007 and 150."""


class HeadNormal(Normal):
    """The normal distribution of a head; its mean and standard deviation are made when they are used.

    Parameters
    ----------
    both
        Means and logarithms of variances, ``(…, 2k)``.
    """

    def __init__(self, both: Tensor) -> None:
        self.both = both
        *lead, twice = both.shape
        Distribution.__init__(self, torch.Size([*lead, twice // 2]), validate_args=False)

    @cached_property
    def loc(self) -> Tensor:  # type: ignore[override]
        """The mean."""
        with torch.set_grad_enabled(self.both.requires_grad):
            return self.both.chunk(2, -1)[0]

    @cached_property
    def scale(self) -> Tensor:  # type: ignore[override]
        """The standard deviation."""
        with torch.set_grad_enabled(self.both.requires_grad):
            return (0.5 * self.both.chunk(2, -1)[1].clamp(-LIMIT, LIMIT)).exp()

    def expand(self, batch_shape: Any, _instance: Any = None) -> Normal:
        """Return the same distribution with a larger batch shape."""
        shape = torch.Size(batch_shape)
        return Normal(self.loc.expand(shape), self.scale.expand(shape), validate_args=False)


class NormalHead(nn.Module):
    """A normal distribution whose mean and log-variance are linear in the hidden units."""

    def __init__(self, n_hidden: int, n_latent: int) -> None:
        super().__init__()
        self.both = nn.Linear(n_hidden, 2 * n_latent)

    def forward(self, h: Tensor) -> Normal:
        """Return the distribution of ``(…, k)``."""
        return HeadNormal(self.both(h))


class MLPPosterior(nn.Module):
    """A normal posterior whose parameters are an MLP of expression and condition.

    Parameters
    ----------
    n_genes
        Genes of x.
    conditioning
        Encodes the condition as a vector.
    hidden
        Width of each hidden layer, at least one.
    n_latent
        Latent dimensions.
    style
        Normalisation, activation and dropout after each linear layer.
    enter
        Function applied to every entry of x first; it must map zero to zero. log(1 + x) suits counts.
    missing
        Whether some cells lack some genes. The input of a missing gene is then a learned value, initially zero.
    """

    def __init__(
        self,
        n_genes: int,
        conditioning: Conditioning,
        hidden: Sequence[int],
        n_latent: int,
        style: LayerStyle,
        enter: Callable[[Tensor], Tensor] = torch.log1p,
        missing: bool = False,
    ) -> None:
        super().__init__()
        self.enter = enter
        self.conditioning = conditioning
        self.expression = RowsLinear(n_genes, hidden[0])
        self.missing_g = nn.Parameter(torch.zeros(n_genes)) if missing else None
        self.condition = nn.Linear(conditioning.n_out, hidden[0], bias=False) if conditioning.n_out else None
        self.after_first = style.after(hidden[0])
        self.rest = MLP(hidden[0], hidden[1:], style)
        self.head = NormalHead(self.rest.n_out, n_latent)

    def forward(self, cells: Cells) -> Normal:
        """Return q(z | x, c), of ``z_nk``."""
        h = self.expression(cells.x, self.enter(cells.x.values))
        if self.missing_g is not None and cells.condition.measured_ng is not None:
            h = h + (self.missing_g * ~cells.condition.measured_ng) @ self.expression.weight_gh
        if self.condition is not None:
            h = h + self.condition(self.conditioning(cells.condition))
        return self.after_first_layer(h, cells.shard)

    def after_first_layer(self, h: Tensor, shard: Shard | None = None) -> Normal:
        """Return q(z | x, c), given what the first layer makes of expression and condition."""
        q: Normal = self.head(self.rest(self.after_first(h, shard), shard))
        return q
