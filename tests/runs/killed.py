"""Fits in processes that are killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

from genevae.io.formats import ReadOptions
from genevae.runs.fit import fit
from genevae.runs.manifest import MANIFEST, START
from genevae.runs.resume import resume

WORDS: dict[str, Any] = {
    "condition": ["type"], "batch": "lane", "recipe": "nb", "epochs": 4, "batch_size": 8, "n_latent": 3, "hidden": (8,),
    "setting": {"category_dropout": 0.1, "size": "learned"}, "device": "cpu", "progress": False, "checkpoint_every": 2,
}  # fmt: skip

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the tests themselves have one
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["genevae.runs.resume", "anndata", "torch._dynamo"])  # once, not for every process


def run_for(seconds: float | None, data: Path, keep: str, run: Path) -> int:
    """Begin a fit, or go on with it, let it work so long, and kill it then; return how it ended."""
    if (run / START).exists():
        process = CONTEXT.Process(target=resume, args=(run,), kwargs={"progress": False})
    else:
        place = ReadOptions(path=data, keep=keep)  # type: ignore[arg-type]
        process = CONTEXT.Process(target=fit, args=(place,), kwargs={**WORDS, "out": run})
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return int(process.exitcode or 0)


def kill_again_and_again(n_kills: int, data: Path, keep: str, run: Path, seed: int) -> int:
    """Kill at random moments, until the fit has ended nonetheless; return how often it was killed.

    The moments are anywhere in the time that a whole fit takes here; and where a fit ends before it was killed often
    enough, that is the end.
    """
    rng, n_killed = random.Random(seed), 0  # noqa: S311 - not a secret
    started = time.monotonic()
    assert run_for(None, data, keep, run.with_name("timed")) == 0
    whole = time.monotonic() - started
    while n_killed < n_kills and not (run / MANIFEST).exists():
        n_killed += run_for(rng.uniform(0, whole), data, keep, run) < 0
    assert run_for(None, data, keep, run) == 0
    return n_killed
