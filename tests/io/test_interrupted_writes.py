"""A full disk, or a kill, under any writer: the old result stays or the new one is there, and nothing in between."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tests.io.writers import WRITERS, content, save
from tests.runs.killed import CONTEXT

from genevae.errors import RunError


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a disk that is full does not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def check(name: str, tmp_path, n_points: int) -> None:
    path = tmp_path / WRITERS[name][0]
    save(name, path, 2)
    largest = max(entry.stat().st_size for entry in tmp_path.rglob("*") if entry.is_file())
    save(name, path, 1)
    old = content(path)
    for n_bytes in np.linspace(0, largest - 1, n_points).astype(int):
        with room_for(int(n_bytes)), pytest.raises(RunError, match="Cannot write"):
            save(name, path, 2)
        assert content(path) == old
        assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
    save(name, path, 2)
    assert content(path) == 2 * old


@pytest.mark.parametrize("name", WRITERS)
def test_the_old_result_stays_where_the_disk_is_full(name, tmp_path):
    check(name, tmp_path, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_it_stays_wherever_the_disk_is_full(name, tmp_path):
    check(name, tmp_path, 40)


def killed(name: str, tmp_path, n_kills: int) -> int:
    """Kill a writer at random moments; return how many it had not finished."""
    path, draw, n = tmp_path / WRITERS[name][0], random.Random(name), 0  # noqa: S311 - moments, not secrets
    save(name, path, 1)
    old, whole = content(path), None
    started = time.monotonic()
    for _ in range(n_kills + 1):
        process = CONTEXT.Process(target=save, args=(name, path, 2))
        process.start()
        process.join(whole and draw.uniform(0, whole))
        process.kill()
        process.join()
        if whole is None:
            whole = time.monotonic() - started
            assert process.exitcode == 0
        assert content(path) in {old, 2 * old}
        n += process.exitcode != 0
        save(name, path, 1)  # whatever was left, the next one succeeds, and clears it
        assert content(path) == old
        assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
    return n


def test_a_writer_that_is_killed_leaves_the_old_or_the_new(tmp_path):
    killed("blocks", tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_that_is_killed_leaves_the_old_or_the_new(name, tmp_path):
    assert killed(name, tmp_path, 30) > 0
