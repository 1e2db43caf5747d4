"""A fit that is killed at any moment goes on to the same bits."""

from __future__ import annotations

import shutil

import pytest
from tests.runs.killed import kill_again_and_again, run_for
from tests.training.runs import assert_same

from genevae.runs.event_log import EventLog


def check(n_kills: int, keep: str, make_adata, tmp_path) -> None:
    data, whole = tmp_path / "cells.h5ad", tmp_path / "whole"
    make_adata(60).write_h5ad(data)
    assert run_for(None, data, keep, whole) == 0
    n_killed, attempt = 0, 0
    while n_killed < n_kills:
        run = tmp_path / f"killed{attempt}"
        n_killed += kill_again_and_again(n_kills - n_killed, data, keep, run, seed=attempt)
        assert_same(whole, run)
        assert not [entry.name for entry in run.rglob(".*")], "nothing half-written is left"
        text = EventLog(run / "log.jsonl").text
        assert text.count('"event": "end"') >= 1
        shutil.rmtree(run.with_name("timed"))
        attempt += 1


@pytest.mark.parametrize(("keep", "n_kills"), [pytest.param("memory", 3, marks=pytest.mark.slow), ("disk", 1)])
def test_a_fit_that_was_killed_ends_as_one_that_was_not(keep, n_kills, make_adata, tmp_path):
    check(n_kills, keep, make_adata, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_so_does_one_that_was_killed_many_times(keep, make_adata, tmp_path):
    check(50, keep, make_adata, tmp_path)
