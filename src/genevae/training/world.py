"""Several processes that train one model together, on one machine or on many: each on its part of every minibatch.

Each process reads its own cells of a minibatch, draws what one process would draw (see :mod:`genevae.nn.sharding`), and
differentiates its share of the loss. Gradients and losses are added up before anything is decided on them. So all
processes have the same weights and the same numbers at every step, and they are those of one process.
"""

from __future__ import annotations

import atexit
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.errors import DataError, RecipeError, TrainingError
from genevae.nn.sharding import gathered, together
from genevae.objectives.objective import Loss
from genevae.training.history import Means
from genevae.training.launch_env import Launch

__all__ = ["ANSWER_WITHIN", "World", "device_of", "join"]

ANSWER_WITHIN = timedelta(minutes=10)
"""After which a process that does not answer is given up."""


@dataclass(frozen=True)
class World:
    """The processes that train together, as this one sees them.

    Parameters
    ----------
    rank, n_ranks
        The number of this process, and how many there are.
    """

    rank: int = 0
    n_ranks: int = 1

    @classmethod
    def alone(cls) -> World:
        """Return the one process that there mostly is."""
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.n_ranks == 1

    def own(self, loader: Loader) -> Loader:
        """Return what loads this process's parts of the same minibatches."""
        return loader if self.is_alone else loader.over(loader.sampler.for_rank(self.rank, self.n_ranks))

    def epoch(self, loader: Loader, number: int) -> Generator[Cells, None, None]:
        """Yield this process's part of each minibatch of an epoch; see :meth:`Loader.epoch`.

        Raises
        ------
        TrainingError
            If there are fewer cells in a minibatch than processes.
        """
        return loader.epoch(number) if self.is_alone else self._parts(loader, number)

    def _parts(self, loader: Loader, number: int) -> Generator[Cells, None, None]:
        sizes_rm = gathered(torch.tensor(loader.sizes(number), dtype=torch.int64))
        if (sizes_rm == 0).any():
            raise TrainingError(
                f"A minibatch of {int(sizes_rm.sum(0).min())} is too few for {self.n_ranks} processes to have a cell "
                "each. Start fewer processes, or choose a larger batch_size or more validation cells."
            )
        with closing(loader.epoch(number)) as minibatches:
            for cells, sizes in zip(minibatches, sizes_rm.T.tolist(), strict=True):
                yield replace(cells, sizes=tuple(sizes))

    def add_up(self, losses: Sequence[Loss], minibatches: Sequence[Cells], parameters: Sequence[Tensor]) -> list[Loss]:
        """Add up gradients, and return the losses of whole minibatches; what each cell lost stays this process's.

        Parameters
        ----------
        losses, minibatches
            Of this process; the gradients are those of its share of the losses.
        parameters
            Whose gradients; where no process has one, there is none.
        """
        if self.is_alone:
            return list(losses)
        numbers = [
            torch.stack([number.detach().to(loss.total) for number in (loss.total, *loss.terms.values())])
            * (cells.n_cells / cells.n_shared)
            for loss, cells in zip(losses, minibatches, strict=True)
        ]
        added = self._add_up(parameters, numbers)
        return [
            Loss(total, dict(zip(loss.terms, terms, strict=True)), loss.per_cell_n)
            for loss, (total, *terms) in zip(losses, added, strict=True)
        ]

    def _add_up(self, parameters: Sequence[Tensor], numbers: Sequence[Tensor]) -> Sequence[Tensor]:
        """Add up gradients in place, and numbers, in one message."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        is_used = parameters[0].new_tensor([p.grad is not None for p in parameters])
        parts = [is_used, *numbers, *(gradient.flatten() for gradient in gradients)]
        message = torch.cat(parts)
        with together():
            distributed.all_reduce(message)
        is_used, *sums = message.split([len(part) for part in parts])
        numbers, added = sums[: len(numbers)], sums[len(numbers) :]
        for parameter, own, total, used in zip(parameters, gradients, added, is_used.tolist(), strict=True):
            parameter.grad = own.copy_(total.view_as(own)) if used else None  # laid out in memory as the weights are
        return numbers

    def sum(self, numbers: Tensor) -> Tensor:
        """Add up numbers that every process has."""
        return numbers if self.is_alone else gathered(numbers).sum(0)

    def means(self, means: Means) -> Means:
        """Put the means of all processes together."""
        if self.is_alone:
            return means
        sums = torch.stack([total.double() for total in means.sums.values()])
        n_cells, *added = self.sum(torch.cat([sums.new_tensor([means.n_cells]), sums]))
        return Means(dict(zip(means.sums, added, strict=True)), int(n_cells))

    def any(self, wish: bool) -> bool:
        """Say whether any process wishes so; all are asked at the same place."""
        return wish if self.is_alone else bool(self.sum(torch.tensor(float(wish))) > 0)

    def texts(self, text: str) -> list[str]:
        """Return what every process says, in order of rank."""
        if self.is_alone:
            return [text]
        letters = torch.tensor(list(text.encode()), dtype=torch.uint8)
        lengths = gathered(torch.tensor([len(letters)])).flatten().tolist()
        padded = nn.functional.pad(letters, [0, max(lengths) - len(letters)])
        return [bytes(each[:n].tolist()).decode() for each, n in zip(gathered(padded), lengths, strict=True)]

    def require_alike(self, what: str, text: str) -> None:
        """Refuse to train together on different things.

        Raises
        ------
        DataError
            If processes say different things; the message names those that differ from the first.
        """
        first, *rest = self.texts(text)
        others = [str(rank) for rank, each in enumerate(rest, 1) if each != first]
        if others:
            raise DataError(
                f"The processes of this job do not have the same {what}: that of process {', '.join(others)} is not "
                "that of process 0. Start all with the same command, on files that are the same on every machine."
            )


def join(launch: Launch, device: torch.device) -> World:
    """Meet the other processes of this job, if there are any; once met they stay so until this process ends.

    Parameters
    ----------
    launch
        How this process was started.
    device
        Where it computes: processes talk by gloo about what is on a CPU, and by NCCL about what is on GPUs.

    Raises
    ------
    RecipeError
        If there is no way to talk about what is on such a device.
    TrainingError
        If the others cannot be found.
    """
    if launch.n_ranks == 1:
        return World.alone()
    if device.type not in {"cpu", "cuda"}:
        raise RecipeError(f"Several processes cannot train together on '{device}'. Choose the device cpu or cuda.")
    if not distributed.is_initialized():
        try:
            store, rank, n_ranks = next(rendezvous(launch.meeting, launch.rank, launch.n_ranks, timeout=ANSWER_WITHIN))
            distributed.init_process_group(
                "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl",
                # torchrun may lend the same store to the processes that it starts again
                store=distributed.PrefixStore(f"start {launch.restarts}", store),  # type: ignore[attr-defined]
                timeout=ANSWER_WITHIN,
                rank=rank,
                world_size=n_ranks,
            )
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"Process {launch.rank} of {launch.n_ranks} did not find the others ({launch.meeting}): "
                f"{str(error).splitlines()[0][:160]}. See that all were started, and that nothing keeps their machines "
                "from talking to each other; MASTER_ADDR and MASTER_PORT name another place to meet."
            ) from error
        atexit.register(distributed.destroy_process_group)
    return World(launch.rank, launch.n_ranks)


def device_of(launch: Launch, device: torch.device) -> torch.device:
    """Return the GPU of this process, where several have one each."""
    if launch.n_ranks == 1 or str(device) != "cuda":
        return device
    own = torch.device("cuda", launch.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(own)
    return own
