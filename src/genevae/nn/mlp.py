"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from genevae.cells import Shard
from genevae.nn.norm import BatchNorm, Dropout, norm_relu

__all__ = ["ACTIVATIONS", "MLP", "NORMS", "AfterLinear", "LayerStyle", "identity"]


def identity(x: Tensor) -> Tensor:
    """Return x."""
    return x


def _batch_norm(n_hidden: int) -> nn.Module:
    """Normalise over cells, averaging the statistics over about a hundred minibatches."""
    return BatchNorm(n_hidden, eps=1e-3, momentum=0.01)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
}

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": _batch_norm,
    "layer": nn.LayerNorm,
    "none": lambda _: nn.Identity(),
}


@dataclass(frozen=True)
class LayerStyle:
    """What follows each linear layer.

    Parameters
    ----------
    norm
        Makes the normalisation of ``h`` units.
    activation
        Makes the activation.
    dropout
        Share of the hidden units that each training step sets to zero.
    """

    norm: Callable[[int], nn.Module] = _batch_norm
    activation: Callable[[], nn.Module] = nn.ReLU
    dropout: float = 0.1

    def after(self, n_hidden: int) -> AfterLinear:
        """Make normalisation → activation → dropout."""
        return AfterLinear(self.norm(n_hidden), self.activation(), Dropout(self.dropout))


class AfterLinear(nn.Sequential):
    """Normalisation → activation → dropout."""

    def forward(self, h: Tensor, shard: Shard | None = None) -> Tensor:
        """Map ``(n, h)`` to ``(n, h)``."""
        norm, activation, dropout = self
        if isinstance(norm, BatchNorm) and type(activation) is nn.ReLU:
            fused = norm_relu(h, norm, cast("nn.Dropout", dropout), shard)
            if fused is not None:
                return fused
        h = norm(h, shard) if isinstance(norm, BatchNorm) else norm(h)
        dropped: Tensor = dropout(activation(h), shard)
        return dropped


class MLP(nn.Module):
    """Linear layers, each followed by normalisation, activation and dropout.

    Parameters
    ----------
    n_in
        Units that come in.
    hidden
        Width of each layer; with none, the input is passed on.
    style
        What follows each linear layer.
    """

    def __init__(self, n_in: int, hidden: Sequence[int], style: LayerStyle) -> None:
        super().__init__()
        widths = [n_in, *hidden]
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(n, m), style.after(m)) for n, m in itertools.pairwise(widths))
        )
        self.n_out = widths[-1]

    def forward(self, x: Tensor, shard: Shard | None = None) -> Tensor:
        """Map ``(…, n_in)`` to ``(…, n_out)``; all leading axes count as cells for batch norm."""
        h: Tensor = x if x.ndim == 2 else x.flatten(0, -2)
        for layer in self.layers:
            linear, after = cast("nn.Sequential", layer)
            h = after(linear(h), shard)
        return h if x.ndim == 2 else h.view(*x.shape[:-1], -1)
