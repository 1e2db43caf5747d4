"""Workers by name: processes and threads of this machine, Dask, submitit."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from genevae.engine.workers import Engine, Workers
from genevae.errors import DataError, RunError

__all__ = ["engine", "require_workers"]

MOST_WORKERS = 4096
_FORMS = "processes:N, threads:N, dask:ADDRESS and submitit:PARTITION"


def require_workers(workers: Workers | None) -> None:
    """Check the name of an executor, before any work.

    Raises
    ------
    DataError
        If it is not one.
    """
    if isinstance(workers, str):
        kind, _, where = workers.partition(":")
        is_number = where.isdecimal() and 0 < int(where) <= MOST_WORKERS
        if kind not in _BY_NAME or not where or (kind in {"processes", "threads"} and not is_number):
            raise DataError(f"There is no executor '{workers}'. There are {_FORMS}, with N up to {MOST_WORKERS:,}.")
    elif workers is not None and not isinstance(workers, Engine) and not hasattr(workers, "submit"):
        raise DataError(f"There is no executor {workers!r}. There are {_FORMS}, and objects with a method submit.")


@contextmanager
def engine(workers: Workers | None) -> Iterator[Engine | None]:
    """Yield workers; None for this thread. Those that are given by name are started, and ended afterwards.

    Raises
    ------
    DataError
        If there is no such executor, or it cannot be reached.
    """
    require_workers(workers)
    if workers is None or isinstance(workers, Engine):
        yield workers
    elif isinstance(workers, str):
        kind, _, where = workers.partition(":")
        with _BY_NAME[kind](where) as started:
            yield started
    else:
        yield Engine(workers)


@contextmanager
def _threads(number: str) -> Iterator[Engine]:
    with ThreadPoolExecutor(int(number)) as pool:
        yield Engine(pool)


@contextmanager
def _processes(number: str) -> Iterator[Engine]:
    n_threads = max(1, (os.cpu_count() or 1) // int(number))

    def started() -> Executor:
        return ProcessPoolExecutor(int(number), get_context("spawn"), _begin, (n_threads,))

    found = Engine(started(), started)
    try:
        yield found
    finally:
        found.executor.shutdown(cancel_futures=True)


def _begin(n_threads: int) -> None:
    """Let a process compute with so many threads, unless the user has set their number, and end with its parent."""
    os.environ.setdefault("OMP_NUM_THREADS", str(n_threads))
    end_with_parent, kill = 1, 9  # PR_SET_PDEATHSIG of Linux, SIGKILL
    with suppress(AttributeError, OSError):  # another system
        ctypes.CDLL(None).prctl(end_with_parent, kill)


@contextmanager
def _dask(address: str) -> Iterator[Engine]:
    try:
        from dask.distributed import Client
    except ImportError:
        raise _not_installed("Dask") from None
    try:
        client = Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise DataError(
            f"No scheduler of Dask answers at {address}: {error}. Start one with `dask scheduler` and `dask worker`, "
            "and give the address that it prints, such as dask:tcp://10.0.0.1:8786."
        ) from error
    with client:
        yield Engine(client)


@contextmanager
def _submitit(partition: str) -> Iterator[Engine]:
    try:
        import submitit
    except ImportError:
        raise _not_installed("submitit") from None
    folder = Path(tempfile.mkdtemp(prefix=".genevae-jobs-", dir=Path.cwd()))  # which all nodes see
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="local" if partition == "local" else None)
        if partition != "local" and executor.cluster != "slurm":
            raise RunError(
                f"There is no Slurm here for the partition '{partition}': sbatch was not found. Use processes:N on "
                "this machine, or submitit:local."
            )
        executor.update_parameters(timeout_min=24 * 60)
        if partition != "local":
            executor.update_parameters(slurm_partition=partition)
        yield Engine(executor)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _not_installed(name: str) -> RunError:
    return RunError(f"{name} is not installed. Install it: pip install 'genevae[scale]'")


_BY_NAME: dict[str, Callable[[str], Any]] = {
    "processes": _processes,
    "threads": _threads,
    "dask": _dask,
    "submitit": _submitit,
}
