"""`genevae fit` by torchrun and by srun, and what is left when one process dies."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.training.processes import begin, finish, free_port, start

import genevae as gv

CRASHING = str(Path(__file__).with_name("crashing.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
OPTIONS = ["--condition", "type", "--batch", "lane", "--batch-size", "50", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(make_adata, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(160).write_h5ad(path)
    return path


def fitted(data: Path, out: Path, epochs: int = 4) -> list[str]:
    return ["fit", str(data), "--out", str(out), "--epochs", str(epochs), *OPTIONS]


def require_alike(run: Path, other: Path) -> None:
    columns = ["epoch", "step", "train_loss", "validation_loss", "learning_rate", "kl", "skipped"]
    ours, theirs = (pd.read_csv(path / "history.csv")[columns] for path in (run, other))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert len(gv.load(run).split) == 160


def events(run: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow  # test_world trains in two processes too
def test_torchrun_trains_as_one_process_does_and_says_so_once(data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    alone = start(1, ["-m", "genevae", *fitted(data, one)])
    both = start(1, [*TORCHRUN, "-m", "genevae", *fitted(data, two)])
    (code, _, errors), (code_of_both, words, errors_of_both) = finish([*alone, *both])
    assert (code, code_of_both) == (0, 0), errors + errors_of_both
    assert words.count("Saved") == 1
    require_alike(two, one)


@pytest.mark.slow
def test_srun_trains_as_one_process_does(data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": free_port(), **step}
    tasks = [
        begin(["-m", "genevae", *fitted(data, two)], {**shared, "SLURM_PROCID": rank, "SLURM_LOCALID": rank})
        for rank in "01"
    ]
    for code, _, errors in finish([*tasks, *start(1, ["-m", "genevae", *fitted(data, one)])]):
        assert code == 0, errors
    require_alike(two, one)


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_one_process_can_finish_what_two_began(data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    command = [CRASHING, "8", *fitted(data, two), "--checkpoint-every", "5"]
    (code, _, errors), (killed, _, _) = finish(start(2, command), within=120)
    assert killed == -signal.SIGKILL
    assert code == 2
    assert errors.startswith("genevae: Another process of this job has ended")
    assert errors.count("\n") == 1, "one paragraph"
    again = [
        *start(1, ["-m", "genevae", "fit", "--resume", str(two)]),
        *start(1, ["-m", "genevae", *fitted(data, one)]),
    ]
    for code, _, errors in finish(again):
        assert code == 0, errors
    assert "resume" in events(two)
    require_alike(two, one)


@pytest.mark.slow
def test_torchrun_starts_a_job_again_and_it_goes_on_from_its_checkpoint(data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    command = [*TORCHRUN, "--max-restarts=1", CRASHING, "8", *fitted(data, two), "--checkpoint-every", "5"]
    for code, _, errors in finish([*start(1, command), *start(1, ["-m", "genevae", *fitted(data, one)])]):
        assert code == 0, errors
    assert events(two).count("start") == events(two).count("resume") == 1
    require_alike(two, one)


@pytest.mark.slow
def test_a_signal_to_one_process_pauses_all_at_the_same_step(data, tmp_path):
    run = tmp_path / "run"
    processes = start(2, ["-m", "genevae", *fitted(data, run, epochs=100_000), "--checkpoint-every", "1000000"])
    try:
        patience = time.monotonic() + 120
        while not (run / "log.jsonl").exists() or "epoch" not in events(run):
            assert time.monotonic() < patience
            time.sleep(0.2)
        processes[1].send_signal(signal.SIGUSR1)
    finally:
        ends = finish(processes, within=60)
    assert [code for code, _, _ in ends] == [75, 75]
    assert "stopped by SIGUSR1" in ends[0][2]
    assert len(list((run / "checkpoints").iterdir())) == 1
