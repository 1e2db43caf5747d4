"""Numbers that the processes of one machine exchange through memory that they share.

Gloo sends them through sockets and wakes a thread for each message: between two processes that are ready, a few numbers
take it 0.4 to 1.8 ms, which is as long as much of a training step. Here each process writes its numbers to a place of
its own, counts up, and waits until all have counted as far.

The memory has two halves, which are used in turn. A process writes to a half again only after all have counted one
exchange further, so after all have read what it had written there before.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from contextlib import suppress
from datetime import timedelta
from mmap import mmap

import numpy as np
import torch
from torch import Tensor, distributed

try:
    import fcntl
except ImportError:  # Windows has other locks, and no memory of this kind either
    fcntl = None  # type: ignore[assignment]

__all__ = ["MOST", "SharedMemory"]

MOST = 8
"""Processes that exchange numbers so: each reads what all others wrote, where a ring passes on parts of sums."""
ROOM = 2**22
"""Bytes that a process writes at once; longer tensors are exchanged in pieces."""
LINE = 64
"""Bytes between the counters of two processes, so that they do not share a line of the processor's cache."""
SPIN = 2e-3
"""Seconds for which a process looks again at once; after that, it sleeps in between."""
SLEEP = 2e-4
"""Seconds of such a sleep."""
CHECK = 0.2
"""Seconds between two checks whether the others still run."""


class SharedMemory:
    """What one process sees of the shared memory.

    Parameters
    ----------
    number
        The file's descriptor in this process.
    rank, n_ranks
        The number of this process, and how many there are.
    wait
        How long the others are waited for.
    """

    def __init__(self, number: int, rank: int, n_ranks: int, wait: timedelta) -> None:
        self.rank, self.n_ranks, self._wait = rank, n_ranks, wait.total_seconds()
        self._file = os.fdopen(number, "r+b", buffering=0)
        everything = np.frombuffer(mmap(number, n_bytes(n_ranks)), np.uint8)
        self._count_r = everything[: n_ranks * LINE].view(np.int64)[:: LINE // 8]
        self._half_2rb = torch.from_numpy(everything[n_ranks * LINE :].reshape(2, n_ranks, ROOM))
        self._n = 0
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)  # the system releases it when the process ends

    @classmethod
    def connect(cls, wait: timedelta) -> SharedMemory | None:
        """Share memory with all processes of this job, which call this at the same place.

        Returns
        -------
        SharedMemory or None
            None in all processes where one of them cannot: on several machines, or where the system or the processor
            does not let one process see in order what another has written.
        """
        rank, n_ranks = distributed.get_rank(), distributed.get_world_size()
        if n_ranks > MOST:
            return None
        number = _create(n_ranks) if rank == 0 else None
        offer = [(os.getpid(), number, _mark(number)) if number is not None else None]
        distributed.broadcast_object_list(offer)
        if rank and offer[0] is not None:
            number = _open(*offer[0])
        able = torch.tensor(int(number is not None))
        distributed.all_reduce(able, distributed.ReduceOp.MIN)
        if able:
            memory = cls(number, rank, n_ranks, wait)  # type: ignore[arg-type]
            distributed.barrier()  # all hold their locks, which say that they run
            return memory
        if number is not None:
            os.close(number)
        return None

    def gather(self, x: Tensor) -> Tensor:
        """Stack the tensors of all processes along a new first axis.

        Raises
        ------
        RuntimeError
            If another process has ended, or does not answer in time.
        """
        each = x.new_empty((self.n_ranks, *x.shape))
        mine, all_rb = _bytes_of(x), each.view(self.n_ranks, -1).view(torch.uint8)
        for start in range(0, max(1, len(mine)), ROOM):
            piece = mine[start : start + ROOM]
            all_rb[:, start : start + len(piece)] = self._exchange(piece)
        return each

    def add_up(self, x: Tensor) -> None:
        """Replace the numbers of a contiguous tensor by their sums over processes, which are equal in all of them.

        Raises
        ------
        RuntimeError
            If another process has ended, or does not answer in time.
        """
        flat = x.view(-1)
        step = ROOM // x.element_size()
        for start in range(0, max(1, len(flat)), step):
            piece = flat[start : start + step]
            each_rn = self._exchange(_bytes_of(piece)).view(x.dtype)
            torch.add(each_rn[0], each_rn[1], out=piece)
            for other_n in each_rn[2:]:
                piece += other_n

    def _exchange(self, mine: Tensor) -> Tensor:
        """Return the bytes of all processes, to be read before the next exchange."""
        self._n += 1
        half_rb = self._half_2rb[self._n % 2, :, : len(mine)]
        half_rb[self.rank] = mine
        self._count_r[self.rank] = self._n
        self._wait_for_all()
        return half_rb

    def _wait_for_all(self) -> None:
        count_r, n = self._count_r, self._n
        started = checked = time.monotonic()
        while count_r.min() < n:
            now = time.monotonic()
            if now - checked > CHECK:
                checked = now
                self._require_others(now - started)
            time.sleep(0 if now - started < SPIN else SLEEP)  # other threads run

    def _require_others(self, waited: float) -> None:
        """Check that those that are waited for still run."""
        for rank in np.flatnonzero(self._count_r < self._n).tolist():
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, rank)
                if self._count_r[rank] < self._n:
                    raise RuntimeError(f"process {rank} has ended")
            if waited > self._wait:
                raise RuntimeError(f"process {rank} has not answered for {waited:,.0f} s")


def n_bytes(n_ranks: int) -> int:
    """Return the size of the memory that so many processes share."""
    return n_ranks * (LINE + 2 * ROOM)


def _create(n_ranks: int) -> int | None:
    """Make memory that ends with the last process that has it; return its descriptor, or None where that is unknown."""
    if platform.machine().lower() not in {"x86_64", "amd64"} or not hasattr(os, "memfd_create"):
        return None  # other processors do not keep the order of what is written
    try:
        number = os.memfd_create("genevae", os.MFD_CLOEXEC)
        os.ftruncate(number, n_bytes(n_ranks))
        os.pwrite(number, secrets.token_bytes(LINE), LINE * n_ranks)
    except OSError:
        return None
    return number


def _mark(number: int) -> bytes:
    """Return the random bytes by which processes know that they have the same memory."""
    size = os.fstat(number).st_size
    return os.pread(number, LINE, LINE * (size // (LINE + 2 * ROOM)))


def _open(pid: int, number: int, mark: bytes) -> int | None:
    """Open the memory of the first process, or return None where that is on another machine or does not allow it."""
    try:
        opened = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    with suppress(OSError):
        if _mark(opened) == mark:
            return opened
    os.close(opened)
    return None


def _bytes_of(x: Tensor) -> Tensor:
    return x.detach().contiguous().view(-1).view(torch.uint8)
