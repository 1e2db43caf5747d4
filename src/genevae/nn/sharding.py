"""One minibatch in several processes, each of which has a shard of its cells.

Where several processes train together, each has consecutive cells of the minibatch, and :class:`~genevae.cells.Shard`,
which travels with the minibatch, says which. Then

- random numbers are drawn for all cells by every process, from generators in the same state, and each process keeps
  those of its own cells (:func:`draw`);
- numbers of the whole minibatch, such as a mean over its cells, are computed here.

So a step of several processes is the step of one. Each process differentiates its share of the loss, and gradients are
added up: the gradient of :func:`all_gather` adds up what all processes have made of the numbers of one.

Where the shard is None, one process has the whole minibatch, and nothing here communicates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from genevae.cells import Shard
from genevae.errors import TrainingError
from genevae.nn.shared_memory import SharedMemory

__all__ = [
    "all_count", "all_gather", "all_mean", "all_norm", "all_rows", "all_sum", "averaged", "collective", "draw",
    "n_of_first", "shard_rows", "share_memory", "shares_memory",
]  # fmt: skip


FEW = 2**12
"""Numbers that are added up by gathering them: gloo takes three times as long to reduce as few."""
_shared: list[SharedMemory] = []
"""The memory that the processes of this job share, if all are on one machine."""


def share_memory(wait: timedelta) -> None:
    """Exchange numbers through shared memory from now on, if all processes can; they call this at the same place.

    Parameters
    ----------
    wait
        How long the others are waited for.
    """
    memory = SharedMemory.connect(wait)
    _shared[:] = [memory] if memory else []


def shares_memory() -> bool:
    """Whether the processes of this job exchange numbers through shared memory."""
    return bool(_shared)


def draw(make: Callable[[Sequence[int]], Tensor], shape: Sequence[int], shard: Shard | None, axis: int = 0) -> Tensor:
    """Draw random numbers for the cells of this process.

    Parameters
    ----------
    make
        Makes random numbers of a shape.
    shape
        The shape for the cells of this process.
    shard
        Which cells these are.
    axis
        The axis of the cells. Where it is a multiple of them, as with particles × cells, it repeats all cells.
    """
    if shard is None:
        return make(shape)
    rows, before, after = shard.rows, shape[:axis], shape[axis + 1 :]
    times = shape[axis] // (rows.stop - rows.start)
    numbers = make((*before, times * shard.n_total, *after)).unflatten(axis, (times, shard.n_total))
    kept: Tensor = numbers.narrow(axis + 1, rows.start, rows.stop - rows.start).flatten(axis, axis + 1)
    return kept


def n_of_first(n: int, shard: Shard | None) -> int:
    """Return how many of the first ``n`` cells of the minibatch belong to this process."""
    return n if shard is None else max(0, n - shard.rows.start)


def shard_rows(x_n: Tensor, shard: Shard | None) -> Tensor:
    """Take the rows of this process from a tensor with a row for each cell, or for each pair of cells."""
    if shard is None:
        return x_n
    rows_per_cell = len(x_n) / shard.n_total
    return x_n[round(shard.rows.start * rows_per_cell) : round(shard.rows.stop * rows_per_cell)]


def all_rows(x_n: Tensor, shard: Shard | None) -> Tensor:
    """Concatenate the rows of all processes, one row for each cell."""
    if shard is None:
        return x_n
    padding = [0, 0] * (x_n.ndim - 1) + [0, max(shard.sizes) - len(x_n)]
    each = all_gather(F.pad(x_n, padding))
    return torch.cat([x[:size] for x, size in zip(each, shard.sizes, strict=True)])


def all_gather(x: Tensor) -> Tensor:
    """Stack the tensors of all processes along a new first axis."""
    each: Tensor = _AllGather.apply(x)  # type: ignore[no-untyped-call]
    return each


class _AllGather(torch.autograd.Function):
    """yᵣ = x of process r; the gradient of x is the sum over processes of their gradients of yᵣ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - backward needs nothing of it
        return _gathered(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return _reduced(gradients[0])[distributed.get_rank()]


@torch.no_grad()
def all_sum(x: Tensor, shard: Shard | None) -> Tensor:
    """Add up a tensor over processes; without a gradient."""
    return x if shard is None else _reduced(x)


def all_count(n: int, device: torch.device, shard: Shard | None) -> int:
    """Add up a count over processes."""
    return n if shard is None else int(_reduced(torch.tensor(n, device=device)))


@torch.no_grad()
def all_mean(mean: Tensor, shard: Shard | None) -> Tensor:
    """Turn the mean over the cells of each process into the mean over all cells; without a gradient."""
    return mean if shard is None else _reduced(mean * shard.share)


@torch.no_grad()
def all_norm(x: Tensor, shard: Shard | None) -> Tensor:
    """Return the L2 norm of the numbers of all processes."""
    return x.norm() if shard is None else _reduced(x.square().sum()).sqrt()


def _reduced(x: Tensor) -> Tensor:
    if x.numel() <= FEW:
        return _gathered(x).sum(0, dtype=x.dtype)
    total = x.clone(memory_format=torch.contiguous_format)
    with collective():
        if _shared and x.device.type == "cpu":
            _shared[0].add_up(total)
        else:
            distributed.all_reduce(total)
    return total


def averaged(gradients: Tensor) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients of ``DistributedDataParallel`` over processes in place, through shared memory."""
    done = torch.futures.Future[Tensor]()
    _shared[0].add_up(gradients)
    done.set_result(gradients.div_(distributed.get_world_size()))
    return done


def _gathered(x: Tensor) -> Tensor:
    if _shared and x.device.type == "cpu":
        with collective():
            return _shared[0].gather(x)
    each = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(distributed.get_world_size())]
    with collective():
        distributed.all_gather(each, x.contiguous())
    return torch.stack(each)


@contextmanager
def collective() -> Iterator[None]:
    """Run an operation of all processes, and explain in words when one of them is missing.

    Raises
    ------
    TrainingError
        If another process has ended or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "Another process of this job has ended, or did not answer in time, and training needs all of them. Its "
            "message, here or in its log, is the cause; without a message it was killed, often because memory ran "
            "out. This process ends too. With --checkpoint-every, training continues from the last checkpoint, in any "
            "number of processes: genevae fit --resume RUN. Otherwise start the job again. "
            f"(Process {distributed.get_rank()} of {distributed.get_world_size()}: "
            f"{str(error).splitlines()[0][:160]})"
        ) from error
