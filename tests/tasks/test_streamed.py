"""Answers that are written as they come: the same as in memory, whole or not at all."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import genevae as gv
from genevae.errors import DataError, RunError
from genevae.io.formats import ReadOptions
from genevae.io.h5ad import ignore_warnings
from genevae.preprocessing.convert import convert

VERBS: dict[str, Callable[..., Any]] = {
    "embed": lambda model, data, **words: gv.embed(model, data, batch_size=16, **words),
    "denoise": lambda model, data, **words: gv.denoise(model, data, n_draws=2, batch_size=16, **words),
    "counterfactual": lambda model, data, **words: gv.counterfactual(
        model, data, condition={"drug": "stim"}, n_draws=4, batch_size=16, **words
    ),
    "generate": lambda model, _, **words: gv.generate(
        model, n=30, condition={"type": ["A", "B"]}, batch_size=16, **words
    ),
}
SUFFIXES = [".h5ad", ".zarr"]


def stored(path: Path) -> AnnData:
    with ignore_warnings():
        return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


def dense(x: Any) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def bytes_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def require_same(found: AnnData, expected: AnnData) -> None:
    assert found.shape == expected.shape
    assert list(found.obs_names) == list(expected.obs_names)
    assert list(found.var_names) == list(expected.var_names)
    assert list(found.obs.columns) == list(expected.obs.columns)
    for name in expected.obs:
        if not pd.api.types.is_numeric_dtype(expected.obs[name]):
            assert found.obs[name].astype(str).tolist() == expected.obs[name].astype(str).tolist()
        else:
            np.testing.assert_array_equal(found.obs[name], expected.obs[name])
            assert found.obs[name].dtype == expected.obs[name].dtype
    assert (found.X is None) == (expected.X is None)
    if expected.X is not None:
        assert sparse.issparse(found.X) == sparse.issparse(expected.X)
        assert found.X.dtype == expected.X.dtype
        np.testing.assert_array_equal(dense(found.X), dense(expected.X))
    for place in ("layers", "obsm"):
        ours, theirs = getattr(found, place), getattr(expected, place)
        assert set(ours) == set(theirs)
        for name in theirs:
            np.testing.assert_array_equal(dense(ours[name]), dense(theirs[name]))
    assert found.uns.get("genevae", {}).keys() == expected.uns.get("genevae", {}).keys()
    for name, value in expected.uns.get("genevae", {}).items():
        assert str(found.uns["genevae"][name]) == str(value), name


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_written_is_what_would_be_returned(verb, suffix, tiny_model, make_adata, tmp_path) -> None:
    adata = make_adata(70, seed=3)
    expected = VERBS[verb](tiny_model, adata)
    path = tmp_path / f"answer{suffix}"
    returned = VERBS[verb](tiny_model, adata, out=path)
    require_same(stored(path), expected)
    assert returned.X is None, "expression is on disk, and not in memory too"
    assert not returned.layers
    assert not returned.obsm
    assert list(returned.obs_names) == list(expected.obs_names)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("verb", ["embed", "denoise", "counterfactual"])
def test_from_disk_to_disk_is_the_same(verb, tiny_model, make_adata, tmp_path) -> None:
    adata = make_adata(70, seed=3)
    convert(adata, tmp_path / "cells", cells_per_file=30)
    VERBS[verb](tiny_model, ReadOptions(path=tmp_path / "cells", keep="disk"), out=tmp_path / "answer.zarr")
    found, expected = stored(tmp_path / "answer.zarr"), VERBS[verb](tiny_model, adata)
    found.obs = found.obs.drop(columns=["gene_count", "umi_count"])  # which batch files add
    require_same(found, expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_there_is_replaced_only_when_that_is_asked(verb, suffix, tiny_model, adata, tmp_path) -> None:
    path = tmp_path / f"answer{suffix}"
    VERBS[verb](tiny_model, adata, out=path)
    before = bytes_of(path)
    with pytest.raises(RunError, match=r"answer.*already exists.*overwrite=True"):
        VERBS[verb](tiny_model, adata, out=path)
    assert bytes_of(path) == before
    VERBS[verb](tiny_model, adata, out=path, overwrite=True)
    assert bytes_of(path) == before, "the same question has the same answer, and nothing of the old one is left"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tiny_model, adata, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("genevae.tasks.embed.open_cells", lambda *_: pytest.fail("the data were opened"))
    with pytest.raises(RunError, match=r"\.xlsx"):
        gv.embed(tiny_model, adata, out=tmp_path / "answer.xlsx")
    with pytest.raises(RunError, match="/proc"):
        gv.embed(tiny_model, adata, out="/proc/answer.h5ad")


# --- errors in the middle ---------------------------------------------------------------------------------------------


def _failing_after(n: int, error: Exception) -> Callable[..., Any]:
    """Stand in for to_numpy(): what the tasks give their tensors to, a minibatch at a time."""
    from genevae.tasks.output import to_numpy

    seen = []

    def give(x: Any) -> Any:
        seen.append(x)
        if len(seen) > n:
            raise error
        return to_numpy(x)

    return give


ERRORS = {
    "damaged data": (DataError("cells.h5ad is damaged"), DataError, "is damaged"),
    "a mistake of ours": (ZeroDivisionError("a mistake"), ZeroDivisionError, "a mistake"),
    "stopped": (KeyboardInterrupt("stopped"), KeyboardInterrupt, "stopped"),
    "disk full": (OSError(errno.ENOSPC, "No space left on device"), RunError, "No space left on device"),
}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", ERRORS)
def test_an_error_in_the_middle_leaves_nothing(what, suffix, there, tiny_model, make_adata, tmp_path, monkeypatch):
    raised, expected, said = ERRORS[what]
    path = tmp_path / f"answer{suffix}"
    adata = make_adata(70, seed=3)
    if there:
        VERBS["embed"](tiny_model, adata, out=path)
    before = {entry.name: bytes_of(entry) for entry in tmp_path.iterdir()}
    modes = {part: part.training for part in tiny_model.module.modules()}
    monkeypatch.setattr("genevae.tasks.embed.to_numpy", _failing_after(4, raised))
    with pytest.raises(expected, match=said):
        VERBS["embed"](tiny_model, adata, out=path, overwrite=there)
    assert {entry.name: bytes_of(entry) for entry in tmp_path.iterdir()} == before
    assert {part: part.training for part in tiny_model.module.modules()} == modes


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_named_wherever_it_is_noticed(
    verb, suffix, tiny_model, make_adata, tmp_path, monkeypatch
) -> None:
    """h5py and zarr raise from their own writes; the last write of all is the one that puts the store in its place."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for where in (
        "genevae.io.write.anndata._Array._write",
        "genevae.io.write.anndata._write_tables",
        "genevae.io.write.anndata.replace_with",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, full)
            with pytest.raises(RunError, match=rf"answer{suffix}: No space left on device"):
                VERBS[verb](tiny_model, make_adata(40, seed=3), out=tmp_path / f"answer{suffix}")
        assert not any(tmp_path.iterdir())


# --- kills ------------------------------------------------------------------------------------------------------------

KILLED = """
import sys, torch
torch.set_num_threads(1)
import genevae as gv
verb, run, data, out = sys.argv[1:]
model = gv.load(run)
print("ready", flush=True)
words = dict(out=out, overwrite=True, batch_size=16)
if verb == "embed": gv.embed(model, data, **words)
if verb == "denoise": gv.denoise(model, data, n_draws=2, **words)
if verb == "counterfactual": gv.counterfactual(model, data, condition={"drug": "stim"}, n_draws=4, **words)
if verb == "generate": gv.generate(model, n=1500, condition={"type": ["A", "B"]}, **words)
"""

LARGE = {
    **VERBS,
    "generate": lambda model, _, **words: gv.generate(
        model, n=1500, condition={"type": ["A", "B"]}, batch_size=16, **words
    ),
}


def _kill(verb: str, room: Path, out: Path, wait: float) -> bool:
    """Run a verb in a process of its own, and kill it so many seconds after it begins; say whether it was killed."""
    arguments = [sys.executable, "-c", KILLED, verb, str(room / "run"), str(room / "cells.h5ad"), str(out)]
    process = subprocess.Popen(arguments, start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(wait)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def _killed_and_asked_again(
    verb: str, suffix: str, waits: list[float] | int, model: Any, make_adata: Any, folder: Path
) -> int:
    """Kill a verb, ask again, and compare with what an undisturbed run writes; say how many were killed."""
    room, place = folder / "room", folder / "place"
    room.mkdir()
    place.mkdir()
    gv.save(model, room / "run")
    make_adata(3000, seed=3).write_h5ad(room / "cells.h5ad")
    started = time.monotonic()
    LARGE[verb](model, room / "cells.h5ad", out=room / f"whole{suffix}")
    lasts = time.monotonic() - started
    expected = bytes_of(room / f"whole{suffix}")
    draw = random.Random(verb + suffix)  # noqa: S311 - moments, not secrets
    out, n_killed = place / f"answer{suffix}", 0
    for wait in [draw.uniform(0, 1.5 * lasts) for _ in range(waits)] if isinstance(waits, int) else waits:
        n_killed += _kill(verb, room, out, wait)
        if out.exists():
            assert bytes_of(out) == expected, "what is there is whole"
        LARGE[verb](model, room / "cells.h5ad", out=out, overwrite=True)
        assert bytes_of(out) == expected
        assert [entry.name for entry in place.iterdir()] == [out.name]
        if draw.random() < 0.5:
            shutil.rmtree(out) if out.is_dir() else out.unlink()
    return n_killed


@pytest.mark.parametrize(("verb", "suffix"), [("denoise", ".h5ad"), ("embed", ".zarr")])
def test_a_verb_that_was_killed_answers_the_same_when_asked_again(
    verb, suffix, tiny_model, make_adata, tmp_path
) -> None:
    assert _killed_and_asked_again(verb, suffix, [0.05], tiny_model, make_adata, tmp_path) == 1


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_killed_at_any_moment_answers_the_same(verb, suffix, tiny_model, make_adata, tmp_path) -> None:
    assert _killed_and_asked_again(verb, suffix, 13, tiny_model, make_adata, tmp_path) > 0
