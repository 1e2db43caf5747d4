"""Jobs: one training each, in two processes; finished jobs are kept, so that an interrupted run can be continued."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.results.settings import OURS, TRIED, VISITS

__all__ = ["Job", "Rows", "kept", "missing", "processes", "recipe_of", "run_all", "settings_of"]

Rows = Mapping[str, Mapping[str, float]]
"""The result of a job: for each row of a table, its scores by name."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
}


@dataclass(frozen=True)
class Job:
    """One method on one data set with one seed.

    Parameters
    ----------
    question, data, method, seed
        What is trained, on what.
    quick
        Whether it trains for two epochs only, as a smoke test.
    """

    question: str
    data: str
    method: str
    seed: int
    quick: bool = False

    def __str__(self) -> str:
        """Return a readable name."""
        return f"{self.question}: {self.method} on {self.data}, seed {self.seed}"

    def path(self, folder: Path) -> Path:
        """Return the file of its scores."""
        name = "-".join((self.data, self.method, str(self.seed))).replace(" ", "_").replace("/", "_")
        return folder / ("quick" if self.quick else "full") / self.question / f"{name}.json"


def recipe_of(job: Job) -> tuple[str, dict[str, Any]]:
    """Return the recipe that a job trains, and its settings."""
    ours = job.method, OURS.get(job.question, {}).get(job.method, {})
    return TRIED.get(job.question, {}).get(job.method, ours)


def settings_of(job: Job) -> dict[str, Any]:
    """Return the settings of the recipe of a job."""
    return recipe_of(job)[1]


def terms_of(job: Job) -> dict[str, Any]:
    """Return what a job's scores depend on: the settings of its recipe, and the length of training."""
    return {"settings": settings_of(job), "visits": VISITS[job.question]}


def kept(job: Job, folder: Path) -> dict[str, Any] | None:
    """Return the result of a job, unless its settings have changed. Changes of the code are not detected."""
    path = job.path(folder)
    if not path.exists():
        return None
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    terms = json.loads(json.dumps(terms_of(job)))
    return written if all(written.get(name) == term for name, term in terms.items()) else None


def missing(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """Return the jobs without a result."""
    return [job for job in jobs if kept(job, folder) is None]


def processes(n: int) -> ProcessPoolExecutor:
    """Make a pool of processes of one thread each, with the output of other libraries silenced."""
    os.environ.update(ONE_THREAD)  # inherited by the processes
    return ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), _calm)


def run_all(
    jobs: Sequence[Job], run: Callable[[Job], Rows], folder: Path, facts: Mapping[str, Any], pool: Executor
) -> list[Job]:
    """Run the missing jobs, with progress, and return those that failed. A failed job does not stop the others."""
    left = missing(jobs, folder)
    print(f"{len(jobs)} jobs, of which {len(jobs) - len(left)} are done", flush=True)
    failed = []
    waiting = {pool.submit(_timed, run, job): job for job in left}
    for number, future in enumerate(as_completed(waiting), 1):
        job = waiting[future]
        try:
            rows, seconds = future.result()
        except Exception:  # noqa: BLE001 - whatever another library raises
            traceback.print_exc()
            failed.append(job)
            print(f"[{number}/{len(left)}] {job} FAILED", flush=True)
        else:
            _keep(job, rows, seconds, folder, facts)
            print(f"[{number}/{len(left)}] {job} took {seconds:.0f} s", flush=True)
    return failed


def _timed(run: Callable[[Job], Rows], job: Job) -> tuple[Rows, float]:
    """Run a job; its seconds are the processor's, so that other work on the machine does not count."""
    started = time.process_time()
    rows = run(job)
    return rows, time.process_time() - started


def _keep(job: Job, rows: Rows, seconds: float, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write a job's result atomically."""
    path = job.path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**asdict(job), **terms_of(job), "rows": rows, "seconds": seconds, **facts}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _calm() -> None:
    """Limit the process to one thread, and silence other libraries."""
    import logging
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
