"""Parameters that become tensors only when they are used, so that a log-probability can do without them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Deferred", "Gathered", "SoftmaxMean", "proportions", "tensor_of"]


class Deferred:
    """What a tensor is made of; :attr:`value` makes it, once, with a gradient if its parts have one."""

    parts: tuple[Tensor, ...]
    shape: torch.Size

    @cached_property
    def value(self) -> Tensor:
        """The tensor."""
        with torch.set_grad_enabled(any(part.requires_grad for part in self.parts)):
            return self.make()

    def make(self) -> Tensor:
        """Make the tensor."""
        raise NotImplementedError


def tensor_of(parameter: Tensor | Deferred) -> Tensor:
    """Return a parameter as a tensor."""
    return parameter.value if isinstance(parameter, Deferred) else parameter


@dataclass(eq=False)
class SoftmaxMean(Deferred):
    """size × proportion: means whose proportions are a softmax over genes of logits + bias.

    Parameters
    ----------
    logits
        ``(…, n, g)``.
    bias_g
        What is added to the logits of each gene.
    size_n1
        Counts per cell.
    measured_ng
        Which genes were measured; see :func:`proportions`.
    """

    logits: Tensor
    bias_g: Tensor
    size_n1: Tensor
    measured_ng: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        """What has a gradient."""
        return self.logits, self.bias_g, self.size_n1

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """That of the logits."""
        return self.logits.shape

    def make(self) -> Tensor:
        """Return the means."""
        return self.size_n1 * proportions(self.logits + self.bias_g, self.measured_ng)


@dataclass(eq=False)
class Gathered(Deferred):
    """A row of a table for each cell.

    Parameters
    ----------
    table_cg
        One row for each category.
    code_n
        The category of each cell.
    """

    table_cg: Tensor
    code_n: Tensor

    @property
    def parts(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        """What has a gradient."""
        return (self.table_cg,)

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """Cells × genes."""
        return torch.Size([len(self.code_n), self.table_cg.shape[1]])

    def make(self) -> Tensor:
        """Return the rows."""
        return self.table_cg[self.code_n]


def proportions(logits: Tensor, measured_ng: Tensor | None) -> Tensor:
    """Proportion of each gene in a cell's counts: a softmax over genes.

    If only some genes were measured, the proportions of those sum to one, as the cell's size is counted over them. The
    other genes are scaled by the same factor.

    Parameters
    ----------
    logits
        ``(…, n, g)``.
    measured_ng
        The genes that were measured; all by default.
    """
    if measured_ng is None:
        return logits.softmax(-1)
    total = logits.masked_fill(~measured_ng, -torch.inf).logsumexp(-1, keepdim=True)
    return (logits - total).exp()
