"""One process at a time in a folder, and whoever is refused learns by whom."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from genevae.errors import RunError
from genevae.io.atomic import locked
from genevae.runs.fit import fit

HOLD = """
import sys, time
from pathlib import Path
from genevae.io.atomic import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        yield other
        other.kill()


def test_a_second_process_is_refused_and_told_by_whom(holder, tmp_path, adata):
    who = rf"run is in use by process {holder.pid} on {socket.gethostname()} since 2\d\d\d-"
    with pytest.raises(RunError, match=who), locked(tmp_path / "run"):
        pass
    for every in (None, 5):
        with pytest.raises(RunError, match=who):
            fit(adata, out=tmp_path / "run", checkpoint_every=every, epochs=1, progress=False)


def test_a_killed_process_leaves_no_lock(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".run.lock").exists(), "the case is one in which the file is still there"
    with locked(tmp_path / "run"):
        pass
    assert not any(tmp_path.iterdir())


def test_a_folder_is_free_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="no"), locked(tmp_path / "run"):
        raise ValueError("no")
    with locked(tmp_path / "run"), locked(tmp_path / "other"):
        pass
    assert not any(tmp_path.iterdir())
