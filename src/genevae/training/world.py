"""Several processes that train one model, on one machine or on many, each on its shard of every minibatch.

Each process reads its shard of a minibatch, draws the random numbers of one process (see :mod:`genevae.nn.sharding`),
and differentiates its share of the loss. ``DistributedDataParallel`` averages the gradients. So all processes have the
same weights and the same numbers at every step, and they are those of one process.
"""

from __future__ import annotations

import atexit
import inspect
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from genevae.cells import Cells, Shard
from genevae.data.loader import Loader
from genevae.errors import DataError, RecipeError, TrainingError
from genevae.nn.sharding import all_gather, averaged, collective, share_memory, shares_memory
from genevae.objectives.objective import Loss, Progress
from genevae.training.history import Means
from genevae.training.launch_env import Launch

__all__ = ["ANSWER_WITHIN", "World", "device_of", "join"]

ANSWER_WITHIN = timedelta(minutes=10)
"""How long the other processes are waited for."""


@dataclass(frozen=True)
class World:
    """The processes that train together, as one of them sees them; by default there is only one.

    Parameters
    ----------
    rank, n_ranks
        The number of this process, and how many there are.
    """

    rank: int = 0
    n_ranks: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.n_ranks == 1

    def shards_of(self, loader: Loader) -> Loader:
        """Return a loader of this process's shards of the same minibatches."""
        return loader if self.is_alone else loader.over(loader.sampler.for_rank(self.rank, self.n_ranks))

    def epoch(self, loader: Loader, number: int, first: int = 0) -> Generator[Cells, None, None]:
        """Yield this process's shard of each minibatch of an epoch; see :meth:`Loader.epoch`.

        Raises
        ------
        TrainingError
            If a minibatch has fewer cells than there are processes.
        """
        return loader.epoch(number, first) if self.is_alone else self._shards(loader, number, first)

    def _shards(self, loader: Loader, number: int, first: int) -> Generator[Cells, None, None]:
        sizes_rm = all_gather(torch.tensor(loader.sizes(number, first), dtype=torch.int64))
        if (sizes_rm == 0).any():
            raise TrainingError(
                f"A minibatch of {int(sizes_rm.sum(0).min())} cells is too few for {self.n_ranks} processes. "
                "Start fewer processes, or choose a larger batch_size or more validation cells."
            )
        with closing(loader.epoch(number, first)) as minibatches:
            for cells, sizes in zip(minibatches, sizes_rm.T.tolist(), strict=True):
                yield cells.with_shard(Shard(self.rank, tuple(sizes)))

    def wrap(self, module: nn.Module, cells: Cells, progress: Progress) -> nn.Module:
        """Average the gradients of a module over processes, in buckets, while backward computes the others.

        Parameters
        ----------
        module
            Its forward pass is a loss. A module that is wrapped already is returned.
        cells, progress
            Its input, which shows whether all parameters are used.
        """
        if self.is_alone or isinstance(module, DistributedDataParallel):
            return module
        # Buffers are the same in all processes already. The option for that has another name since torch 2.12.
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        options: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False,
            "gradient_as_bucket_view": True,
            "find_unused_parameters": self.any(_has_unused_parameters(module, cells, progress)),
        }
        with collective():
            wrapped = DistributedDataParallel(module, **options)
        if shares_memory() and cells.x.values.device.type == "cpu":
            wrapped.register_comm_hook(None, lambda _, bucket: averaged(bucket.buffer()))
        return wrapped

    @contextmanager
    def gradients(self, module: nn.Module, is_last: bool) -> Iterator[None]:
        """Compute gradients of a wrapped module; they are averaged over processes in the last part of a step.

        Raises
        ------
        TrainingError
            If another process has ended or does not answer.
        """
        if not isinstance(module, DistributedDataParallel):
            yield
            return
        with collective(), nullcontext() if is_last else module.no_sync():
            yield

    def mean_losses(self, losses: Sequence[Loss], minibatches: Sequence[Cells]) -> list[Loss]:
        """Return the losses of complete minibatches; ``per_cell_n`` stays that of this process's cells."""
        if self.is_alone:
            return list(losses)
        numbers = [
            torch.stack([number.detach().to(loss.total) for number in (loss.total, *loss.terms.values())])
            * (cells.n_cells / cells.n_total)
            for loss, cells in zip(losses, minibatches, strict=True)
        ]
        means = self.sum(torch.cat(numbers)).split([len(each) for each in numbers])
        return [
            Loss(total, dict(zip(loss.terms, terms, strict=True)), loss.per_cell_n)
            for loss, (total, *terms) in zip(losses, means, strict=True)
        ]

    def sum(self, numbers: Tensor) -> Tensor:
        """Add up numbers over processes."""
        return numbers if self.is_alone else all_gather(numbers).sum(0)

    def merge_means(self, means: Means) -> Means:
        """Merge the means of all processes."""
        if self.is_alone:
            return means
        sums = torch.stack([total.double() for total in means.sums.values()])
        n_cells, *added = self.sum(torch.cat([sums.new_tensor([means.n_cells]), sums]))
        return Means(dict(zip(means.sums, added, strict=True)), int(n_cells))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all processes call this at the same place."""
        return flag if self.is_alone else bool(self.sum(torch.tensor(float(flag))) > 0)

    def texts(self, text: str) -> list[str]:
        """Return the texts of all processes, in order of rank."""
        if self.is_alone:
            return [text]
        letters = torch.tensor(list(text.encode()), dtype=torch.uint8)
        lengths = all_gather(torch.tensor([len(letters)])).flatten().tolist()
        padded = nn.functional.pad(letters, [0, max(lengths) - len(letters)])
        return [bytes(each[:n].tolist()).decode() for each, n in zip(all_gather(padded), lengths, strict=True)]

    def require_same(self, what: str, text: str) -> None:
        """Check that all processes have the same text.

        Raises
        ------
        DataError
            If they do not; the message names the processes that differ from the first.
        """
        first, *rest = self.texts(text)
        others = [str(rank) for rank, each in enumerate(rest, 1) if each != first]
        if others:
            raise DataError(
                f"The processes of this job do not have the same {what}: that of process {', '.join(others)} is not "
                "that of process 0. Start all with the same command, on files that are the same on every machine."
            )


def _has_unused_parameters(module: nn.Module, cells: Cells, progress: Progress) -> bool:
    """Whether some parameters have no gradient; the module and the random numbers stay as they are."""
    trial = deepcopy(module)
    devices = [cells.x.values.device] if cells.x.values.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        trial(cells, progress).total.backward()
    return any(parameter.grad is None for parameter in trial.parameters())


def join(launch: Launch, device: torch.device) -> World:
    """Connect to the other processes of this job, if there are any, until this process ends.

    Parameters
    ----------
    launch
        How this process was started.
    device
        Where it computes: processes communicate by NCCL on GPUs, through shared memory on the CPUs of one
        machine, and by gloo on those of several.

    Raises
    ------
    RecipeError
        If there is no communication between such devices.
    TrainingError
        If the others cannot be reached.
    """
    if launch.n_ranks == 1:
        return World()
    if device.type not in {"cpu", "cuda"}:
        raise RecipeError(f"Several processes cannot train together on '{device}'. Choose the device cpu or cuda.")
    if not distributed.is_initialized():
        try:
            store, rank, n_ranks = next(rendezvous(launch.meeting, launch.rank, launch.n_ranks, timeout=ANSWER_WITHIN))
            distributed.init_process_group(
                "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl",
                # torchrun may give the same store to processes that it restarts
                store=distributed.PrefixStore(f"start {launch.restarts}", store),  # type: ignore[attr-defined]
                timeout=ANSWER_WITHIN,
                rank=rank,
                world_size=n_ranks,
            )
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"Process {launch.rank} of {launch.n_ranks} did not find the others ({launch.meeting}): "
                f"{str(error).splitlines()[0][:160]}. Check that all were started, and that no firewall separates "
                "their machines; MASTER_ADDR and MASTER_PORT set another address to meet at."
            ) from error
        atexit.register(distributed.destroy_process_group)
        if device.type == "cpu":
            with collective():
                share_memory(ANSWER_WITHIN)
    return World(launch.rank, launch.n_ranks)


def device_of(launch: Launch, device: torch.device) -> torch.device:
    """Return the GPU of this process, where several processes have one each."""
    if launch.n_ranks == 1 or str(device) != "cuda":
        return device
    gpu = torch.device("cuda", launch.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(gpu)
    return gpu
