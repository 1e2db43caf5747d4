"""Where passes over cells run: in this thread, in pools, or on the workers of Dask or submitit.

A pass is a function of parts, and a part is the same on any worker. Results come in the order of the parts, so
that the result of a pass is the same, to the last bit, for any number of workers.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import shutil
import tempfile
import threading
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from scipy import sparse

from genevae.errors import DataError, GenevaeError, GenevaeWarning, RunError, warn
from genevae.io.atomic import staging_folder
from genevae.io.read_options import ReadOptions

__all__ = ["Block", "Engine", "Pass", "Plan", "Workers", "computed_blocks", "engine", "is_light", "require_workers"]

Block: TypeAlias = Mapping[str, Any]
"""Rows of several elements, by name: dense or CSR."""
Workers: TypeAlias = "Executor | Engine | str | Any"
"""An executor, a Client of Dask, an executor of submitit, or one by name, such as "processes:4"."""

_Waiting: TypeAlias = "deque[tuple[list[tuple[Any, ...]], Any]]"
"""Arguments of calls that a worker makes together, and their future; None for those that are not under way."""

RETRIES = 3
"""How often a part is computed again whose worker died."""
MOST_WORKERS = 4096
JOBS = 64
"""Jobs of submitit in one pass, at most: each has several parts."""
_LIGHT = 2**20
"""Bytes that are sent to a worker with each part, at most."""
_DIED = ("KilledWorker", "UncompletedJobError")
"""Errors of Dask and submitit for a worker that died. Python's own pools raise BrokenExecutor."""
_FORMS = "processes:N, threads:N, dask:ADDRESS and submitit:PARTITION"


class Engine:
    """Workers that compute parts.

    Parameters
    ----------
    executor
        A pool of Python, a Client of Dask, an executor of submitit, or anything with their ``submit``.
    renew
        Starts a pool again after one of its processes died; None for executors that cannot be started again.
    """

    def __init__(self, executor: Any, renew: Callable[[], Executor] | None = None) -> None:
        self.executor = executor
        self._renew = renew
        self._n_done = 0

    @property
    def shares_memory(self) -> bool:
        """Whether workers are threads of this process."""
        return isinstance(self.executor, ThreadPoolExecutor)

    @property
    def n_workers(self) -> int:
        """The number of workers; the number of processors where it is not known."""
        if _is_dask(self.executor):
            return sum(self.executor.nthreads().values()) or 1
        if _is_submitit(self.executor):
            return JOBS
        return int(getattr(self.executor, "_max_workers", None) or os.cpu_count() or 1)

    def in_order(
        self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]], n_items: int, what: str, ahead: int = 1
    ) -> Iterator[Any]:
        """Yield the function of each item, in order.

        Parameters
        ----------
        function
            A function of the values of an item. For other processes it must be at module level.
        items, n_items
            The arguments of each call, which are made when they are needed, and their number.
        what
            What the workers read, in messages.
        ahead
            How many items are in progress for each worker, and one more, at most.

        Raises
        ------
        DataError
            If a worker dies again and again.
        """
        at_once = -(-n_items // JOBS) if _is_submitit(self.executor) else 1
        left = iter(items)
        waiting: _Waiting = deque()
        n_lost = 0
        try:
            while True:
                try:
                    while len(waiting) <= ahead * self.n_workers and (group := list(islice(left, at_once))):
                        waiting.append((group, None))
                        self._submit(function, waiting)
                    if not waiting:
                        return
                    self._submit(function, waiting)
                    results = waiting[0][1].result()
                except Exception as error:
                    if not isinstance(error, BrokenExecutor) and type(error).__name__ not in _DIED:
                        raise
                    n_lost += 1
                    self._after_death(waiting, n_lost, what, error)
                    continue
                n_lost = 0
                self._n_done += 1
                waiting.popleft()
                for result in results:
                    if isinstance(result, _Failed):
                        raise result.error
                    yield result
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()

    def _submit(self, function: Callable[..., Any], waiting: _Waiting) -> None:
        """Hand those that wait, and are not under way, to workers."""
        pure = {"pure": False} if _is_dask(self.executor) else {}
        for number, (group, future) in enumerate(waiting):
            if future is None:
                waiting[number] = group, self.executor.submit(_several, function, group, **pure)

    def _after_death(self, waiting: _Waiting, n_lost: int, what: str, error: Exception) -> None:
        """Let the lost parts be computed again, or raise."""
        is_over = isinstance(error, BrokenExecutor) and self._renew is None  # the user's own pool, which stays broken
        if n_lost > RETRIES or is_over:
            script = "" if self._n_done or is_over else (
                ' Or new processes start your script again: put the call under `if __name__ == "__main__":`.'
            )  # fmt: skip
            raise DataError(
                f"A worker died while it read {what}, probably because it ran out of memory. Use fewer workers.{script}"
            ) from error
        warn(f"A worker died while it read {what}: its part is computed again.")
        if isinstance(error, BrokenExecutor) and self._renew is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
            self.executor = self._renew()
            for number, (group, _) in enumerate(waiting):
                waiting[number] = group, None
        else:
            waiting[0] = waiting[0][0], None


def _is_dask(executor: Any) -> bool:
    return type(executor).__module__.startswith("distributed") and hasattr(executor, "nthreads")


def _is_submitit(executor: Any) -> bool:
    return type(executor).__module__.startswith("submitit")


@dataclass(frozen=True)
class _Failed:
    """An error of ours, as a result: submitit would return its text alone."""

    error: GenevaeError


def _several(function: Callable[..., Any], group: list[tuple[Any, ...]]) -> list[Any]:
    """Compute several parts on a worker, up to the first that fails."""
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        _keep_freed_memory()
    results: list[Any] = []
    for arguments in group:
        try:
            results.append(function(*arguments))
        except GenevaeError as error:
            return [*results, _Failed(error)]
    return results


@cache
def _keep_freed_memory() -> None:
    """Let this process use the memory of freed arrays again, up to 128 MiB.

    Dask starts its workers so that they return it to the system at once, which makes every new array slower.
    """
    trim_threshold, mmap_threshold = -1, -3  # as in malloc.h
    with suppress(AttributeError, OSError):  # a system without mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 2**25)
        libc.mallopt(trim_threshold, 2**27)


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


# Passes whose parts are blocks of rows.


class Pass(Protocol):
    """A computation over cells in parts, each the same on any worker."""

    @property
    def n_parts(self) -> int:
        """The number of parts."""

    def blocks(self, parts: range) -> Generator[Block, None, None]:
        """Yield the rows of some parts, in order."""


class Plan:
    """How a pass is made, by this process and by every worker.

    Parameters
    ----------
    make
        Makes the pass from the other arguments; a function at module level.
    **inputs
        What it is made from. Workers open models in their folders, and data at their paths.
    """

    def __init__(self, make: Callable[..., Pass], **inputs: Any) -> None:
        self.make = make
        self.inputs = inputs

    @cached_property
    def here(self) -> Any:
        """The pass, as this process makes it."""
        return self.make(**self.inputs)

    def blocks(self, workers: Workers | None = None, out: str | Path | None = None) -> Generator[Block, None, None]:
        """Yield the rows of all parts, in order; see :func:`computed_blocks`."""
        if workers is None:
            yield from self.here.blocks(range(self.here.n_parts))
            return
        with engine(workers) as found:
            shared = found is not None and found.shares_memory
            work: Callable[..., Any] = partial(_blocks_here, self) if shared else _Sent.of(self)
            n_parts = self.here.n_parts
            data = self.inputs.get("data", "the model")
            what = str(getattr(data, "path", data))
            yield from computed_blocks(found, work, ((number,) for number in range(n_parts)), n_parts, what, out)


def _blocks_here(plan: Plan, number: int) -> Iterator[Block]:
    with _ONE_AT_A_TIME:
        yield from plan.here.blocks(range(number, number + 1))


_ONE_AT_A_TIME = threading.Lock()
"""PyTorch has one stream of random numbers for all threads of a process."""
_OPENED: list[Any] = []
"""The name of the last plan that this worker has had, and its pass."""


@dataclass(frozen=True)
class _Sent:
    """A plan as it is sent to workers, each of which makes its pass once."""

    name: str
    make: Callable[..., Pass]
    inputs: Mapping[str, Any]

    @classmethod
    def of(cls, plan: Plan) -> _Sent:
        return cls(uuid.uuid4().hex, plan.make, {name: _as_sent(name, given) for name, given in plan.inputs.items()})

    def __call__(self, number: int) -> Iterator[Block]:
        with _ONE_AT_A_TIME:
            yield from self._made().blocks(range(number, number + 1))

    def _made(self) -> Pass:
        if _OPENED[:1] != [self.name]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", GenevaeWarning)  # the client has told them
                _OPENED[:] = self.name, self.make(**{name: _as_opened(given) for name, given in self.inputs.items()})
        made: Pass = _OPENED[1]
        return made


@dataclass(frozen=True)
class _Model:
    """A trained model as it is sent: its folder, and what must be in it."""

    folder: Path
    digests: Mapping[str, str]
    device: str

    def opened(self) -> Any:
        import genevae  # its public function, because engines know nothing of folders of runs

        model = genevae.load(self.folder, device=self.device)
        if model.facts["sha256"] != self.digests:
            raise RunError(f"{self.folder} has changed while it was in use. Start again.")
        return model


def _as_opened(given: Any) -> Any:
    """Return an input as a worker uses it."""
    if isinstance(given, dict):
        return {name: _as_opened(each) for name, each in given.items()}
    return given.opened() if isinstance(given, _Model) else given


def _as_sent(name: str, given: Any) -> Any:
    """Return what is sent to workers in place of an input, which they open themselves.

    Raises
    ------
    DataError, RunError
        If it is in the memory of this process alone.
    """
    if hasattr(given, "module") and hasattr(given, "schema"):
        if getattr(given, "folder", None) is None:
            raise RunError(
                "The workers of an executor open the model themselves, and this one is in memory alone. Save it, and "
                "open it: model.save(PATH), genevae.load(PATH)."
            )
        return _Model(given.folder, given.facts["sha256"], str(next(given.module.parameters()).device))
    if isinstance(given, dict):
        return {each: _as_sent(name, value) for each, value in given.items()}
    if isinstance(given, ReadOptions):
        paths = {each.name: _absolute(getattr(given, each.name)) for each in fields(given) if each.name in _PATHS}
        return replace(given, **paths)
    if name == "data":
        given = _absolute(given)
    if not is_light(given) and name != "data":
        raise RunError(
            f"The workers of an executor cannot be sent what is in memory alone ({type(given).__name__}), such as a "
            "model of another library. Leave out the executor."
        )
    if not is_light(given):
        raise DataError(
            f"The workers of an executor open the data themselves, and these are in memory ({type(given).__name__}). "
            "Give the path of a file; an AnnData is written by adata.write_h5ad(PATH)."
        )
    return given


_PATHS = ("path", "metadata", "gene_names")


def _absolute(given: Any) -> Any:
    """Return paths that a worker in another folder finds too; addresses stay."""
    if isinstance(given, tuple):
        return tuple(map(_absolute, given))
    if isinstance(given, Path) or (isinstance(given, str) and "://" not in given):
        return Path(given).absolute()
    return given


def computed_blocks(
    found: Engine | None,
    function: Callable[..., Iterable[Block]],
    items: Iterable[tuple[Any, ...]],
    n_items: int,
    what: str,
    out: str | Path | None,
) -> Generator[Block, None, None]:
    """Yield the blocks of every item, in order.

    Parameters
    ----------
    found
        Who computes them; None for this thread.
    function
        A function of an item that returns its blocks.
    items, n_items
        The arguments of each call, and their number.
    what
        What is read, in messages.
    out
        The path of the result. Workers write their blocks into a folder beside it, which all must see; it is removed at
        the end. Without, blocks are returned to this process.

    Raises
    ------
    DataError
        If a worker dies again and again.
    """
    if found is None:
        for item in items:
            yield from function(*item)
    elif out is None:
        for blocks in found.in_order(partial(_listed, function), items, n_items, what):
            yield from blocks
    else:
        with staging_folder(Path(f"{Path(out).absolute()}.parts")) as folder:
            for path in found.in_order(partial(_written, function, folder), items, n_items, what, ahead=2):
                yield from _read_blocks(path)
                path.unlink()


def _listed(function: Callable[..., Iterable[Block]], *item: Any) -> list[Block]:
    return list(function(*item))


def _written(function: Callable[..., Iterable[Block]], folder: Path, *item: Any) -> Path:
    """Write the blocks of a part to a file of its own; another worker may be writing the same part."""
    path = folder / uuid.uuid4().hex
    try:
        with path.open("wb") as file:
            for block in function(*item):
                _write_block(file, block)
    except OSError as error:
        raise RunError(
            f"A worker cannot write {path}: {error.strerror or error}. The result must be in a folder that all workers "
            "see, on a disk with room for it."
        ) from error
    return path


def _write_block(file: Any, block: Block) -> None:
    """Append a block: a line of JSON with the width of each CSR element, and then the arrays."""
    widths = {name: int(rows.shape[1]) if sparse.issparse(rows) else None for name, rows in block.items()}
    file.write(json.dumps(widths).encode() + b"\n")
    for name, width in widths.items():
        rows = block[name]
        if width is None:
            np.save(file, np.asarray(rows), allow_pickle=False)
        else:
            for array in (rows.data, rows.indices, rows.indptr):
                np.save(file, array, allow_pickle=False)


def _read_blocks(path: Path) -> Iterator[Block]:
    with path.open("rb") as file:
        while line := file.readline():
            block: dict[str, Any] = {}
            for name, width in json.loads(line).items():
                if width is None:
                    block[name] = np.load(file, allow_pickle=False)
                else:
                    data, indices, indptr = (np.load(file, allow_pickle=False) for _ in range(3))
                    block[name] = sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, width))
            yield block


# What is small enough to be sent.


class _TooLargeError(Exception):
    """It is too large to be sent."""


class _ByteCounter:
    """A file that discards its content, and raises above a limit."""

    def __init__(self) -> None:
        self.n_bytes = 0

    def write(self, part: bytes) -> int:
        """Count bytes."""
        length = memoryview(part).nbytes
        self.n_bytes += length
        if self.n_bytes > _LIGHT:
            raise _TooLargeError
        return length


class _SizePickler(pickle.Pickler):
    """Stops at a large array before it is copied, since copying would read one on disk completely."""

    def reducer_override(self, value: Any) -> Any:
        """Raise at a large array."""
        if isinstance(value, np.ndarray) and value.nbytes > _LIGHT:
            raise _TooLargeError
        return NotImplemented


def is_light(value: Any) -> bool:
    """Return whether a value is small and can be sent to another process."""
    try:
        _SizePickler(_ByteCounter(), protocol=5).dump(value)
    except (_TooLargeError, pickle.PicklingError, TypeError, AttributeError):  # the last two: open files, closures
        return False
    return True
