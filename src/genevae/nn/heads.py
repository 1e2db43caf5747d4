"""Expression as a sum of heads: a tied base for all cells, and one head per field of the condition.

x̂ = (x W) Wᵀ + α Σ_f φ_t(φ_s(x E_f)) D_fᵀ, where φ_s and φ_t are small networks of the category that a cell has in field
f, and of the target category. No weight is negative and there is no bias, so that a head can only add expression, and
what it adds is its contribution.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genevae.cells import ExpressionRows, Shard
from genevae.kernels.arrays import array, fits
from genevae.kernels.compile import load
from genevae.nn.linear import product
from genevae.nn.sharding import all_norm

__all__ = ["SCALINGS", "AdditiveHeads", "CategoryNetworks", "ContextHead", "Scaling", "TiedBase", "non_negative"]

Scaling = Literal["constant", "learned", "fitted"]
"""How the heads of the fields are scaled: by a constant, a parameter, or a constant that the first cells fit."""
SCALINGS: tuple[Scaling, ...] = ("constant", "learned", "fitted")


def non_negative(free: Tensor) -> Tensor:
    """Return |v|: the weights that a free parameter stands for. Its gradient vanishes nowhere, not even at zero."""
    return free.abs()


def columns(*shape: int) -> nn.Parameter:
    """Draw weights of which every column (last axis but one) has length one, and most of a column is small."""
    weights = torch.rand(shape) ** 3
    return nn.Parameter(weights / weights.norm(dim=-2, keepdim=True))


class TiedBase(nn.Module):
    """h = x W and x̂ = h Wᵀ: what all cells share, whatever their condition.

    Parameters
    ----------
    n_genes
        Genes of x.
    n_hidden
        Columns of W. They start at length 1/√h, so that x̂ starts no longer than x.

    Notes
    -----
    W is the parameter over √h. The parameter starts with columns of length one, as those of the other heads do. An
    optimiser changes all parameters by about the learning rate per step; if they were W itself, the first steps would
    be larger than W, and the base would end with hardly any weight.
    """

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__()
        self.free_unit_gh = columns(n_genes, n_hidden)
        self.register_load_state_dict_pre_hook(_convert_former_weight)  # type: ignore[no-untyped-call]

    @property
    def weight_gh(self) -> Tensor:
        """W, the first and the last layer."""
        n_hidden = self.free_unit_gh.shape[1]
        return non_negative(self.free_unit_gh) / math.sqrt(n_hidden)


def _convert_former_weight(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:  # noqa: ARG001
    """Load models whose parameter was W itself."""
    if (free_gh := state.pop(f"{prefix}free_gh", None)) is not None:
        state[f"{prefix}free_unit_gh"] = free_gh * free_gh.shape[1] ** 0.5


def _rename_former_networks(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:  # noqa: ARG001
    """Load models whose networks had other names."""
    for former, name in (("inwards", "encode_hidden"), ("outwards", "decode_hidden")):
        for key in [key for key in state if key.startswith(f"{prefix}{former}.")]:
            state[key.replace(f"{prefix}{former}.", f"{prefix}{name}.")] = state.pop(key)


class CategoryNetworks(nn.Module):
    """One small network for every category, without bias; each cell passes through the network of its category.

    The weights of each cell's category are gathered, so that the cost depends on the cells, and not on how many
    categories there are.

    Parameters
    ----------
    n_categories
        How many networks. A code beyond them is an unknown category, which gives zeros.
    widths
        Units that come in, and the width of each layer.
    activation
        Makes what follows each layer; must leave zero where it is.
    """

    def __init__(self, n_categories: int, widths: Sequence[int], activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.n_categories = n_categories
        self.free = nn.ParameterList(columns(n_categories, n, m) for n, m in itertools.pairwise(widths))
        self.activation = activation()

    def forward(self, h: Tensor, code_n: Tensor) -> Tensor:
        """Map ``(…, n, h)`` to ``(…, n, h)``."""
        if h.ndim == 2 and torch.is_grad_enabled() and fits("csr", h, *self.free):
            for free_chk in self.free:
                h = self.activation(_CategoryProduct.apply(h, free_chk, code_n))  # type: ignore[no-untyped-call]
            return h
        known_n1 = (code_n < self.n_categories).unsqueeze(-1)
        code_n = code_n.clamp(max=self.n_categories - 1)
        for free_chk in self.free:
            h = self.activation((h.unsqueeze(-1) * _gathered(free_chk, code_n)).sum(-2))  # faster than small products
        known: Tensor = torch.where(known_n1, h, 0.0)
        return known


class _CategoryProduct(torch.autograd.Function):
    """h |W|, with the W of each cell's category, compiled."""

    @staticmethod
    def forward(ctx: Any, h_nh: Tensor, free_chk: Tensor, code_n: Tensor) -> Tensor:
        free = array(free_chk)
        ctx.arrays, ctx.sign = (array(h_nh), np.abs(free), array(code_n)), np.sign(free)
        out = np.empty((len(h_nh), free_chk.shape[2]), np.float32)
        load("csr").category_product(*ctx.arrays, out)
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nk: Tensor) -> tuple[Tensor, Tensor, None]:
        h, weight, _ = ctx.arrays
        dh, dweight = np.empty_like(h), np.empty_like(weight)
        load("csr").category_product_gradient(*ctx.arrays, array(grad_nk), dh, dweight)
        return torch.from_numpy(dh), torch.from_numpy(dweight * ctx.sign), None


def _gathered(free_chk: Tensor, code_n: Tensor) -> Tensor:
    """Gather the weights of each cell's category; an embedding's gradient is summed faster than an index's."""
    few = torch.compiler.is_exporting() or len(free_chk) < len(code_n)  # what is exported takes any number of cells
    flat_cw = non_negative(free_chk.flatten(1)) if few else free_chk.flatten(1)
    flat_nw = nn.functional.embedding(code_n, flat_cw)
    gathered: Tensor = (flat_nw if few else non_negative(flat_nw)).unflatten(1, free_chk.shape[1:])
    return gathered


class ContextHead(nn.Module):
    """What one field adds: E, the networks of two categories, and D.

    Parameters
    ----------
    n_genes
        Genes of x.
    n_categories
        Categories of the field.
    hidden
        Width of E's output and of each layer of a network; the last is the hidden state. Decoding has them reversed.
    activation
        Makes what follows each layer of the networks.
    shared
        Whether encoding and decoding pass through the same network of a category; all widths must then be the same.
    """

    def __init__(
        self,
        n_genes: int,
        n_categories: int,
        hidden: Sequence[int],
        activation: Callable[[], nn.Module],
        shared: bool = False,
    ) -> None:
        super().__init__()
        widths = (hidden[0], *hidden)
        self.n_categories = n_categories
        self.free_read_gh = columns(n_genes, hidden[0])
        self.free_write_gh = columns(n_genes, hidden[0])
        self.register_load_state_dict_pre_hook(_rename_former_networks)  # type: ignore[no-untyped-call]
        self.encode_hidden = CategoryNetworks(n_categories, widths, activation)
        if shared:  # outside the register of modules, so that its weights are saved once
            object.__setattr__(self, "decode_hidden", self.encode_hidden)
        else:
            self.decode_hidden = CategoryNetworks(n_categories, widths[::-1], activation)

    @property
    def read_gh(self) -> Tensor:
        """E, the first layer."""
        return non_negative(self.free_read_gh)

    @property
    def write_gh(self) -> Tensor:
        """D, the last layer, before it is scaled."""
        return non_negative(self.free_write_gh)


class _Weights(torch.autograd.Function):
    """|v| times a factor, for as many tensors v as there are factors, and the others; concatenated, without copies."""

    @staticmethod
    def forward(ctx: Any, factors: Sequence[float], *parts: Tensor) -> Tensor:
        ctx.save_for_backward(*parts[: len(factors)])
        ctx.factors, ctx.n_each = factors, [part.shape[-1] for part in parts]
        out = parts[0].new_empty(len(parts[0]), sum(ctx.n_each))
        for number, (part, into) in enumerate(zip(parts, out.split(ctx.n_each, -1), strict=True)):
            if number < len(factors):
                torch.abs(part, out=into)
                if factors[number] != 1:
                    into.mul_(factors[number])
            else:
                into.copy_(part)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_gk: Tensor) -> tuple[Tensor | None, ...]:
        gradients = list(grad_gk.split(ctx.n_each, -1))
        for number, (free, factor) in enumerate(zip(ctx.saved_tensors, ctx.factors, strict=True)):
            gradients[number] = free.sgn().mul_(gradients[number])
            if factor != 1:
                gradients[number] *= factor
        return (None, *gradients)


class AdditiveHeads(nn.Module):
    """The base and the head of every field, whose first layers are one product, and whose last layers are another.

    Parameters
    ----------
    n_genes
        Genes of x.
    n_categories
        Categories of each field.
    n_base
        Hidden units of the base.
    hidden
        Widths of each field's head; see :class:`ContextHead`.
    activation
        Makes what follows each layer of the networks.
    scale
        α: the factor of what the heads of the fields add.
    scaling
        Whether α is constant, a parameter, or fitted to some cells by :meth:`fit_scale`.
    shared
        Whether encoding and decoding share the network of each category.
    """

    free_scale: Tensor
    unit_of_head_kh: Tensor

    def __init__(
        self,
        n_genes: int,
        n_categories: Mapping[str, int],
        n_base: int,
        hidden: Sequence[int],
        activation: Callable[[], nn.Module],
        scale: float = 0.0159,
        scaling: Scaling = "constant",
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.fields = tuple(n_categories)
        self.base = TiedBase(n_genes, n_base)
        self.heads = nn.ModuleList(ContextHead(n_genes, n, hidden, activation, shared) for n in n_categories.values())
        self.scaling = scaling
        self.hidden_widths = [n_base, *[hidden[-1]] * len(self.heads)]
        self.widths = [n_base, *[hidden[0]] * len(self.heads)]
        units = torch.block_diag(*(torch.ones(n, 1) for n in self.hidden_widths))  # 1 where a hidden unit is of a head
        self.register_buffer("unit_of_head_kh", units, persistent=False)
        if scaling == "learned":
            self.free_scale = nn.Parameter(torch.tensor(scale))
        else:
            self.register_buffer("free_scale", torch.tensor(scale))

    @property
    def n_hidden(self) -> int:
        """Units of all hidden states side by side."""
        return sum(self.hidden_widths)

    @property
    def scale(self) -> Tensor:
        """α."""
        return non_negative(self.free_scale)

    def weights(self, *others: Tensor) -> Tensor:
        """Return the last layer and the rest of the first, ``gk``: W, all α D and all E, concatenated.

        Parameters
        ----------
        others
            Weights ``gk`` that are appended as they are.
        """
        heads = cast("list[ContextHead]", list(self.heads))
        free = [self.base.free_unit_gh, *(head.free_write_gh for head in heads), *(head.free_read_gh for head in heads)]
        if self.scaling == "learned" or torch.compiler.is_exporting():  # α has a gradient, or a graph is recorded
            base_gk, *rest = map(non_negative, free)
            written, read = rest[: len(heads)], rest[len(heads) :]
            base_gk = base_gk * self.widths[0] ** -0.5
            return torch.cat([base_gk, *(self.scale * each for each in written), *read, *others], -1)
        factors = [self.widths[0] ** -0.5, *[float(self.scale)] * len(heads), *[1.0] * len(heads)]
        weights: Tensor = _Weights.apply(factors, *free, *others)  # type: ignore[no-untyped-call]
        return weights

    def first_layer(self) -> Tensor:
        """Return the first layer, ``gk``: W and all E, concatenated."""
        weight_gk = self.weights()
        return torch.cat([weight_gk[:, : self.widths[0]], weight_gk[:, sum(self.widths) :]], -1)

    def last_layer(self) -> Tensor:
        """Return the last layer, ``gk``: W and all α D, concatenated."""
        return self.weights()[:, : sum(self.widths)].contiguous()

    def encode_hidden(self, h: Tensor, codes: Mapping[str, Tensor]) -> Tensor:
        """Map the first layer's output to the hidden states, through the networks of the cells' categories."""
        base, *rest = h.split(self.widths, -1)
        return torch.cat([base, *(head.encode_hidden(part, codes[f]) for f, head, part in self._each(rest))], -1)

    def decode_hidden(self, z: Tensor, codes: Mapping[str, Tensor]) -> Tensor:
        """Map the hidden states to the last hidden units, through the networks of the target categories."""
        base, *rest = z.split(self.hidden_widths, -1)
        return torch.cat([base, *(head.decode_hidden(part, codes[f]) for f, head, part in self._each(rest))], -1)

    def _each(self, parts: Sequence[Tensor]) -> list[tuple[str, ContextHead, Tensor]]:
        return list(zip(self.fields, self.heads, parts, strict=True))  # type: ignore[arg-type]

    def encode(self, x: ExpressionRows, codes: Mapping[str, Tensor]) -> Tensor:
        """Return the hidden states ``(n, k)`` of cells with these categories."""
        return self.encode_hidden(product(x, self.first_layer()), codes)

    def decode(self, z: Tensor, codes: Mapping[str, Tensor]) -> Tensor:
        """Return the expression ``(…, n, g)`` of hidden states under these categories."""
        return self.decode_hidden(z, codes) @ self.last_layer().T

    def contributions(self, z: Tensor, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what each head adds, ``(…, n, g)``; that of the base is ``base``. They sum to :meth:`decode`."""
        parts = self.decode_hidden(z, codes).split(self.widths, -1)
        written = self.last_layer().split(self.widths, -1)
        names = ("base", *self.fields)
        return {name: h @ w_gk.T for name, h, w_gk in zip(names, parts, written, strict=True)}

    @torch.no_grad()
    def fit_scale(self, x: ExpressionRows, codes: Mapping[str, Tensor], shard: Shard | None = None) -> None:
        """Scale the heads of the fields so that all of them add as much as the base does, in L2 norm."""
        base, *rest = self.contributions(self.encode(x, codes), codes).values()
        if rest and (added := all_norm(torch.stack(rest).sum(0), shard)) > 0:
            self.free_scale.mul_(all_norm(base, shard) / added)
