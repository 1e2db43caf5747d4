"""Kill workers, the command that started them, and one process of several that train, and see whether anything is lost.

`python benchmarks/kills.py --kills 20`. Moments are random, from the start of a command, of its workers, or of the
training that several processes have met for, to the time that a whole one takes. A run counts as right where its result
has the same bits as one that nobody disturbed, nothing else is left beside it, and no process goes on; where the
command itself was killed, after the same command again.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import anndata
from processes import free_port
from safetensors.torch import load_file
from stores import counts_like_cells

WITHIN = 30.0
"""Seconds within which processes end whose command was killed."""


def main() -> int:
    """Print how many of the kills of each kind went right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--cells", type=int, default=60_000, help="that are embedded")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what is killed")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rng, wrong = random.Random(arguments.seed), 0  # noqa: S311 - not a secret
    with tempfile.TemporaryDirectory(prefix="genevae-kills-") as name:
        folder = Path(name)
        counts_like_cells(arguments.cells, 1_000, 0.1).write_h5ad(folder / "cells.h5ad")
        counts_like_cells(2_000, 500, 0.1).write_h5ad(folder / "few.h5ad")
        genevae("fit", folder / "few.h5ad", "--epochs", "1", "--out", folder / "small")
        genevae("fit", folder / "cells.h5ad", "--epochs", "1", "--out", folder / "run")
        for kind in arguments.kinds:
            trial = KINDS[kind](folder)
            found = [trial(rng) for _ in range(arguments.kills)]
            hit = [right for right in found if right is not None]
            wrong += len(hit) - sum(hit)
            print(
                f"the {kind} killed: {sum(hit)} of {len(hit)} went right; {len(found) - len(hit)} had ended before",
                flush=True,
            )
    return int(wrong > 0)


Trial = Callable[[random.Random], "bool | None"]
"""Kills once, and returns whether all is right; None where there was nothing left to kill."""


def genevae(*words: object) -> None:
    """Run a command to its end."""
    subprocess.run([sys.executable, "-m", "genevae", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def begin(*words: object, **environment: str) -> subprocess.Popen[bytes]:
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "genevae", *map(str, words)],
        env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def embedding(folder: Path) -> tuple[list[object], Path, float]:
    """Return the command that embeds with two workers, its result undisturbed, and the seconds that it takes."""
    words = ["embed", folder / "run", folder / "cells.h5ad", "--executor", "processes:2", "--force", "--out"]
    expected = folder / "expected.zarr"
    started = time.monotonic()
    genevae(*words, expected)
    return words, expected, time.monotonic() - started


def begin_in(place: Path, words: list[object]) -> subprocess.Popen[bytes]:
    """Start an embedding whose result is to be alone in a folder."""
    place.mkdir(exist_ok=True)
    return begin(*words, place / "out.zarr")


def worker_killed(folder: Path) -> Trial:
    """Return a trial in which a worker is killed, and the command goes on."""
    words, expected, whole = embedding(folder)
    place = folder / "worker"

    def trial(rng: random.Random) -> bool | None:
        process = begin_in(place, words)
        while process.poll() is None and not workers_of(process.pid):
            time.sleep(0.05)
        time.sleep(rng.uniform(0, whole / 2))
        victims = workers_of(process.pid)
        if not victims:
            return None if process.wait() == 0 and same(place, expected) else False
        kill(rng.choice(victims))
        return process.wait() == 0 and same(place, expected)

    return trial


def command_killed(folder: Path) -> Trial:
    """Return a trial in which the command is killed, and given again."""
    words, expected, whole = embedding(folder)
    place = folder / "command"

    def trial(rng: random.Random) -> bool | None:
        process = begin_in(place, words)
        time.sleep(rng.uniform(0, whole))
        if process.poll() is not None:
            return None if same(place, expected) else False
        workers = workers_of(process.pid)
        kill(process.pid)
        process.wait()
        whole_or_none = not (place / "out.zarr").exists() or equal(place / "out.zarr", expected)
        ended = all_end(workers)
        genevae(*words, place / "out.zarr")
        return whole_or_none and ended and same(place, expected)

    return trial


def rank_killed(folder: Path) -> Trial:
    """Return a trial in which one of two processes that train is killed, and the fit continued by both."""
    words = [
        "fit", folder / "few.h5ad", "--epochs", "12", "--checkpoint-every", "5", "--device", "cpu",
        "--out",
    ]  # fmt: skip
    undisturbed = ranks(*words, folder / "two")
    wait_for(folder / "two" / "start.json", undisturbed)
    started = time.monotonic()
    if any(process.wait() for process in undisturbed):
        raise SystemExit("two processes could not train")
    whole = time.monotonic() - started
    expected = load_file(folder / "two" / "model.safetensors")

    def trial(rng: random.Random) -> bool | None:
        run = folder / f"rank{rng.random()}"
        started = ranks(*words, run)
        wait_for(run / "start.json", started)
        time.sleep(rng.uniform(0, whole))
        victim = rng.choice(started)
        if victim.poll() is not None:
            return None if not any(process.wait() for process in started) else False
        kill(victim.pid)
        if not all_end([process.pid for process in started], started):
            return False
        if any(process.wait() for process in ranks("fit", "--resume", run)):
            return False
        found = load_file(run / "model.safetensors")
        return all(found[name].equal(expected[name]) for name in expected)

    return trial


def wait_for(path: Path, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until processes that train have met and written where they start."""
    while not path.exists() and all(process.poll() is None for process in processes):
        time.sleep(0.01)


KINDS = {"worker": worker_killed, "command": command_killed, "rank": rank_killed}
"""What is killed, and what makes the trials."""


def ranks(*words: object) -> list[subprocess.Popen[bytes]]:
    """Start a command in two processes that train together."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    return [begin(*words, **shared, RANK=str(rank)) for rank in range(2)]


def workers_of(pid: int) -> list[int]:
    """Return the worker processes that a command has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(each) for each in children if "spawn_main" in Path(f"/proc/{each}/cmdline").read_text()]
    except OSError:  # one has ended
        return []


def kill(pid: int) -> None:
    """Kill a process, unless it has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def all_end(pids: Sequence[int], children: Sequence[subprocess.Popen[bytes]] = ()) -> bool:
    """Return whether processes end soon; kill those that do not."""
    until = time.monotonic() + WITHIN + (240 if children else 0)  # those that train wait for each other
    while time.monotonic() < until:
        for child in children:
            child.poll()
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.1)
    for pid in pids:
        kill(pid)
    return False


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def same(place: Path, expected: Path) -> bool:
    """Return whether the result is there, equal, and alone in its folder."""
    return [path.name for path in place.iterdir()] == ["out.zarr"] and equal(place / "out.zarr", expected)


def equal(one: Path, other: Path) -> bool:
    """Return whether two results have the same bits."""
    ours, theirs = anndata.read_zarr(one), anndata.read_zarr(other)
    same_names = ours.obs_names.equals(theirs.obs_names)
    return same_names and all(ours.obsm[key].tobytes() == theirs.obsm[key].tobytes() for key in theirs.obsm)


if __name__ == "__main__":
    sys.exit(main())
