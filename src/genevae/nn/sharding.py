"""One minibatch in several processes, each of which has a part of its cells.

In one process nothing here does anything: draws are plain draws, and a mean over cells is a mean over cells. Where
several processes train together, each has consecutive cells of the minibatch, and says which by :func:`sharing`. Then

- what is drawn for every cell is drawn for all of them by every process, from generators in the same state, and each
  takes what belongs to its own cells (:func:`drawn`);
- what is a number of the whole minibatch, such as a mean over its cells, is asked for here.

So a step of several processes is the step of one. Each differentiates its own share of the loss, and gradients are
added up: the gradient of :func:`gathered` adds up what all processes have made of what a process gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from genevae.cells import Cells
from genevae.errors import TrainingError

__all__ = [
    "Part", "all_cells", "count_of_all", "drawn", "gathered", "mean_of_all", "norm_of_all", "own_cells", "own_of_first",
    "present", "share", "sharing", "sum_of_all", "together",
]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """The cells of a minibatch that this process has.

    Parameters
    ----------
    rank
        The number of this process.
    sizes
        Cells that each process has, one at least; the cells of a process follow those of the process before it.
    """

    rank: int
    sizes: tuple[int, ...]

    @property
    def n_cells(self) -> int:
        """Cells of all processes."""
        return sum(self.sizes)

    @property
    def own(self) -> slice:
        """Where the cells of this process lie among all."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])

    @property
    def share(self) -> float:
        """The share of the cells that this process has."""
        return self.sizes[self.rank] / self.n_cells


_part: Part | None = None


@contextmanager
def sharing(cells: Cells) -> Iterator[None]:
    """Let it be known, while these cells pass through a model, which part of their minibatch they are."""
    global _part  # noqa: PLW0603 - layers deep inside a model ask for it
    before, _part = _part, Part(distributed.get_rank(), cells.sizes) if cells.sizes else None
    try:
        yield
    finally:
        _part = before


def present() -> Part | None:
    """Return this process's part of the present minibatch; None where it has all of it."""
    return _part


def share() -> float:
    """Return the share of the minibatch that this process has."""
    return 1.0 if _part is None else _part.share


def drawn(draw: Callable[[Sequence[int]], Tensor], shape: Sequence[int], axis: int = 0) -> Tensor:
    """Draw numbers for the cells of this process.

    Parameters
    ----------
    draw
        Makes random numbers of a shape.
    shape
        Of what this process needs.
    axis
        That of the cells; where it is a multiple of them, as with particles above cells, it has all cells some times.
    """
    if _part is None:
        return draw(shape)
    own, before, after = _part.own, shape[:axis], shape[axis + 1 :]
    times = shape[axis] // (own.stop - own.start)
    numbers = draw((*before, times * _part.n_cells, *after)).unflatten(axis, (times, _part.n_cells))
    mine: Tensor = numbers.narrow(axis + 1, own.start, own.stop - own.start).flatten(axis, axis + 1)
    return mine


def own_of_first(n: int) -> int:
    """Return how many of the first ``n`` cells of the minibatch are this process's."""
    return n if _part is None else max(0, n - _part.own.start)


def own_cells(x_n: Tensor) -> Tensor:
    """Take this process's rows of what has a row for each of so many cells, or for each of so many pairs."""
    if _part is None:
        return x_n
    rows_per_cell = len(x_n) / _part.n_cells
    return x_n[round(_part.own.start * rows_per_cell) : round(_part.own.stop * rows_per_cell)]


def all_cells(x_n: Tensor) -> Tensor:
    """Put the rows of all processes one after the other; each gives one for each of its cells."""
    if _part is None:
        return x_n
    padding = [0, 0] * (x_n.ndim - 1) + [0, max(_part.sizes) - len(x_n)]
    each = gathered(F.pad(x_n, padding))
    return torch.cat([x[:size] for x, size in zip(each, _part.sizes, strict=True)])


def gathered(x: Tensor) -> Tensor:
    """Return what every process has here, one after the other along a new first axis."""
    each: Tensor = _Gathered.apply(x)  # type: ignore[no-untyped-call]
    return each


class _Gathered(torch.autograd.Function):
    """yᵣ = what process r has; its gradient is the sum over processes of theirs with respect to yᵣ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - backward needs nothing of it
        each = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(distributed.get_world_size())]
        with together():
            distributed.all_gather(each, x.contiguous())
        return torch.stack(each)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return _added_up(gradients[0])[distributed.get_rank()]


@torch.no_grad()
def sum_of_all(x: Tensor) -> Tensor:
    """Add up what all processes have here; without a gradient."""
    return x if _part is None else _added_up(x)


def count_of_all(n: int, device: torch.device) -> int:
    """Add up what all processes have counted."""
    return n if _part is None else int(_added_up(torch.tensor(n, device=device)))


@torch.no_grad()
def mean_of_all(mean: Tensor) -> Tensor:
    """Make the mean over all cells of the mean over the cells of each process; without a gradient."""
    return mean if _part is None else _added_up(mean * _part.share)


@torch.no_grad()
def norm_of_all(x: Tensor) -> Tensor:
    """Return the L2 norm of the numbers of all processes."""
    return x.norm() if _part is None else _added_up(x.square().sum()).sqrt()


def _added_up(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    with together():
        distributed.all_reduce(total)
    return total


@contextmanager
def together() -> Iterator[None]:
    """Do what all processes do at once, and say in words when one of them is not there any more.

    Raises
    ------
    TrainingError
        If another process has ended or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "Another process of this job has ended, or did not answer in time, and training needs all of them. What "
            "that process has said, here or in its own log, is the cause; where it said nothing it was killed, often "
            "because memory ran out. This one ends too. Start the job again; with --checkpoint-every it goes on from "
            f"its last checkpoint. (Process {distributed.get_rank()} of {distributed.get_world_size()} was told: "
            f"{str(error).splitlines()[0][:160]})"
        ) from error
