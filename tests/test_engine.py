"""Passes over cells on workers: the same bits as here, on real local clusters of Dask and of submitit, and in pools."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import genevae as gv
from genevae.engine import Engine, engine
from genevae.engine.parts import _read_blocks, _write_block
from genevae.errors import DataError, GenevaeWarning, RunError
from genevae.io.formats import open_source
from genevae.io.lowlevel.hdf5 import Hdf5Array
from genevae.preprocessing.convert import convert
from genevae.preprocessing.filter import filter_cells
from genevae.preprocessing.hvg import highly_variable
from genevae.preprocessing.map_chunks import map_chunks, sum_groups
from genevae.preprocessing.pseudobulk import pseudobulk
from tests.dying import dies, dies_once


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """Two workers in processes of their own."""
    distributed = pytest.importorskip("dask.distributed", reason="Dask is not installed: pip install 'genevae[scale]'")
    settings = importlib.import_module("dask").config.set({"distributed.scheduler.allowed-failures": 0})
    words = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with settings, distributed.LocalCluster(**words) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def cells(make_adata, tmp_path):
    path = tmp_path / "cells.h5ad"
    make_adata(100).write_h5ad(path)
    return open_source(path)


def summed(source, executor=None, chunk: int = 40) -> np.ndarray:
    total_bg = np.zeros((2, len(source.genes)))
    for part in map_chunks(
        sum_groups, source, np.arange(len(source)), lambda at: np.arange(100)[at] % 2, chunk, executor
    ):
        part.add_to(total_bg)
    return total_bg


def test_dask_adds_up_the_same_bits(cells, dask):
    np.testing.assert_array_equal(summed(cells, dask), summed(cells))


def test_genes_and_pseudobulk_are_the_same_on_dask(cells, dask):
    words = {"n_genes": 5, "batch": cells.obs["lane"].to_numpy(), "chunk": 30}
    assert highly_variable(cells, **words, executor=dask) == highly_variable(cells, **words)
    there, here = (pseudobulk(cells, by=["type", "drug"], executor=executor) for executor in (dask, None))
    np.testing.assert_array_equal(there.X, here.X)
    assert there.obs.equals(here.obs)


def test_a_file_that_is_gone_is_an_error_with_its_name_on_dask(cells, dask):
    Path(cells.name).unlink()
    with pytest.raises(DataError, match=r"cells\.h5ad"):
        summed(cells, dask)


@pytest.mark.slow
def test_a_worker_of_submitit_that_dies_is_an_error_that_says_so(cells, tmp_path):
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install 'genevae[scale]'")
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    with pytest.raises(DataError, match="A worker died"), pytest.warns(GenevaeWarning, match="computed again"):
        list(map_chunks(lambda x, with_: os._exit(9), cells, np.arange(100), lambda at: None, 100, executor))


@pytest.mark.slow
def test_a_worker_of_dask_that_dies_is_an_error_that_says_so(cells, dask):
    with pytest.raises(DataError, match="A worker died"), pytest.warns(GenevaeWarning, match="computed again"):
        list(map_chunks(lambda x, with_: os._exit(9), cells, np.arange(100), lambda at: None, 100, dask))


def test_a_copy_of_an_open_file_does_not_close_it(cells):
    """Dask makes copies of what it is sent, to tell whether it was sent the same before."""
    numbers = Hdf5Array(Path(cells.name), "X/data").opened()
    before = numbers[0:50]
    copied = copy.deepcopy(numbers)
    np.testing.assert_array_equal(copied[0:50], before)
    del copied
    np.testing.assert_array_equal(numbers[0:50], before)


def test_submitit_adds_up_the_same_bits(cells, tmp_path):
    """Its local executor starts a process for every chunk, as it starts a job for each on a cluster."""
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install 'genevae[scale]'")
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=5)
    np.testing.assert_array_equal(summed(cells, executor, chunk=50), summed(cells))


# Tasks: a part has random numbers of its own, so it is the same whoever computes it.

TASKS: dict[str, Callable[..., Any]] = {
    "embed": gv.embed,
    "denoise": partial(gv.denoise, n_draws=2),
    "counterfactual": partial(gv.counterfactual, condition={"drug": "stim"}, n_draws=3),
    "classify": partial(gv.classify, field="type"),
    "generate": lambda model, data, **words: gv.generate(model, n=100, condition={"type": ["A", "B"]}, **words),
    "generate a mean": lambda model, data, **words: gv.generate(model, n=100, mean=True, **words),
}


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory) -> gv.Trained:
    path = tmp_path_factory.mktemp("run") / "run"
    tiny_model.save(path)
    return gv.load(path)


@pytest.fixture(scope="module")
def file(make_adata, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(120, seed=2).write_h5ad(path)
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def arrays_of(result: Any) -> dict[str, np.ndarray]:
    if isinstance(result, pd.DataFrame):
        return {str(name): column.to_numpy().astype(str) for name, column in result.items()}
    elements = {} if result.X is None else {"X": result.X}
    elements |= {f"{place}/{key}": x for place in ("layers", "obsm") for key, x in getattr(result, place).items()}
    found = {name: x.toarray() if sparse.issparse(x) else np.asarray(x) for name, x in elements.items()}
    return found | {f"obs/{name}": result.obs[name].to_numpy().astype(str) for name in result.obs}


def require_same(found: Any, expected: Any) -> None:
    ours, theirs = arrays_of(found), arrays_of(expected)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_on_workers_is_the_same_to_the_last_bit(run, file, tmp_path, monkeypatch, name):
    monkeypatch.setattr("genevae.tasks.inference.PART", 32)
    monkeypatch.setattr("genevae.tasks.generate.PART", 32)
    monkeypatch.setattr("genevae.tasks.generate.MAX_VALUES", 32 * 30)
    task = partial(TASKS[name], run, file, batch_size=16)
    expected = task()
    require_same(task(executor="threads:2"), expected)
    if name == "classify":
        return
    written = tmp_path / "out.h5ad"
    task(executor="threads:2", out=written)
    require_same(anndata.read_h5ad(written), expected)
    assert names_in(tmp_path) == ["out.h5ad"]  # no parts are left


def test_random_numbers_of_parts_differ(run, make_adata, monkeypatch):
    """The same cell in two parts is drawn twice."""
    monkeypatch.setattr("genevae.tasks.inference.PART", 16)
    twice = anndata.concat([make_adata(16)] * 2, index_unique="-", keys=["a", "b"])
    found = gv.denoise(run, twice, n_draws=1, batch_size=16).X
    assert (found[:16] != found[16:]).mean() > 0.9


def test_a_result_is_added_to_a_file_on_workers(run, file, tmp_path):
    paths = [tmp_path / name for name in ("here.h5ad", "there.h5ad")]
    for path, executor in zip(paths, (None, "threads:2"), strict=True):
        path.write_bytes(file.read_bytes())
        gv.embed(run, path, into=path, executor=executor)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@dataclass(frozen=True)
class Repeated:
    """The cells of a file, many times; the process that reads a row of ``fatal`` first of all dies of it."""

    path: Path
    times: int
    fatal: int = -1
    name = "repeated"
    aliases, panels = {}, None

    @property
    def source(self) -> Any:
        return open_source(self.path)

    @property
    def genes(self) -> tuple[str, ...]:
        return self.source.genes

    @property
    def obs(self) -> pd.DataFrame:
        obs = self.source.obs
        return obs.iloc[np.tile(np.arange(len(obs)), self.times)].set_axis(map(str, range(len(self))))

    def __len__(self) -> int:
        return len(self.source) * self.times

    def read(self, rows: np.ndarray) -> Any:
        died = Path(f"{self.path}.died")
        if self.fatal in rows and len(rows) > 1000 and not died.exists():  # not in a sample
            died.touch()
            os._exit(9)
        return self.source.read(rows % len(self.source))


def test_embed_on_dask_is_the_same_also_where_a_worker_is_killed(run, file, dask, tmp_path):
    expected = gv.embed(run, Repeated(file, 170))  # three parts
    gv.embed(run, Repeated(file, 170), executor=dask, out=tmp_path / "a.h5ad")
    address = f"dask:{dask.scheduler.address}"
    with pytest.warns(GenevaeWarning, match="A worker died while it read .*: its part is computed again"):
        gv.embed(run, Repeated(file, 170, fatal=9000), executor=address, out=tmp_path / "b.zarr")
    for found in (anndata.read_h5ad(tmp_path / "a.h5ad"), anndata.read_zarr(tmp_path / "b.zarr")):
        for key in ("X_genevae", "X_genevae_scale"):
            np.testing.assert_array_equal(found.obsm[key], expected.obsm[key])
    assert names_in(tmp_path) == ["a.h5ad", "b.zarr"]


def test_tasks_with_random_numbers_are_the_same_on_dask(run, file, dask, monkeypatch):
    monkeypatch.setattr("genevae.tasks.inference.PART", 32)
    dask.wait_for_workers(2)  # one was killed
    dask.run(exec, "import genevae.tasks.inference as i; i.PART = 32")
    for name in ("denoise", "counterfactual"):
        task = partial(TASKS[name], run, file, batch_size=16)
        require_same(task(executor=dask), task())
    dask.run(exec, "import genevae.tasks.inference as i; i.PART = 2**13")


def test_an_evaluation_on_dask_is_the_same(run, file, dask):
    words = {"sections": ["fit", "simulation", "labels"], "progress": False}
    here = gv.evaluate({"nb": run, "again": run}, file, **words)
    there = gv.evaluate({"nb": run, "again": run}, file, **words, executor=dask)
    pd.testing.assert_frame_equal(there.scores, here.scores, check_exact=True)
    assert [section.name for section in there.sections] == [section.name for section in here.sections]
    assert there.skipped == here.skipped
    assert there.sampling == here.sampling


def test_a_model_of_another_library_is_evaluated_here_only(file, dask, make_adata):
    class Zeros:
        genes = tuple(make_adata(1).var_names)

        def embed(self, cells):
            return np.zeros((cells.n_obs, 2))

    with pytest.raises(RunError, match=r"model of another library\. Leave out the executor"):
        gv.evaluate(Zeros(), file, executor=dask, progress=False)


def test_workers_need_a_model_and_data_that_they_can_open(tiny_model, run, make_adata, dask):
    with pytest.raises(RunError, match=r"model\.save\(PATH\)"):
        gv.embed(tiny_model, make_adata(20), executor=dask)
    with pytest.raises(DataError, match=r"AnnData.*write_h5ad"):
        gv.embed(run, make_adata(20_000), executor=dask)


@pytest.mark.parametrize(
    "name", ["processes", "processes:0", "processes:x", f"processes:{10**22}", "dask:", "slurm:gpu", "", 4]
)
def test_a_name_that_is_no_executor_is_answered_with_those_there_are(run, file, name):
    with pytest.raises(DataError, match=r"There is no executor.*dask:ADDRESS"):
        gv.embed(run, file, executor=name)


def test_a_scheduler_that_does_not_answer_is_named(run, file, monkeypatch):
    distributed = pytest.importorskip("dask.distributed", reason="Dask is not installed: pip install 'genevae[scale]'")

    def fails(address: str, timeout: str) -> None:
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", fails)
    with pytest.raises(DataError, match=r"answers at tcp://nowhere:1.*dask scheduler"):
        gv.embed(run, file, executor="dask:tcp://nowhere:1")


# Conversion and filters.


def test_conversion_is_the_same_bytes_on_workers(file, dask, tmp_path):
    for name, words in {
        "a.zarr": {},
        "folder": {"cells_per_file": 50},
        "f": {"to": "h5ad", "shuffle": True, "cells_per_file": 70},
    }.items():
        here, there = tmp_path / "here" / name, tmp_path / "there" / name
        convert(file, here, **words)
        convert(file, there, **words, executor=dask)
        files = [path.relative_to(here) for path in here.rglob("*") if path.is_file()]
        assert files
        for path in files:
            if path.suffix != ".h5ad":  # which has the time it was written
                assert (here / path).read_bytes() == (there / path).read_bytes()
            else:
                require_same(anndata.read_h5ad(there / path), anndata.read_h5ad(here / path))
        assert names_in(there.parent) == names_in(here.parent)


def test_workers_read_the_cells_that_passed_a_filter(file, dask, tmp_path):
    filtered = [filter_cells(file, min_counts=40, min_cells=72, executor=executor).source for executor in (None, dask)]
    for source, executor in zip(filtered, (None, dask), strict=True):
        convert(source, tmp_path / f"{executor is None}.h5ad", executor=executor)
    found = anndata.read_h5ad(tmp_path / "False.h5ad")
    assert 0 < found.n_obs < 120
    assert 0 < found.n_vars < 30
    require_same(found, anndata.read_h5ad(tmp_path / "True.h5ad"))


# Deaths of workers in pools.


def test_a_pool_whose_process_was_killed_is_started_again(tmp_path):
    with (
        engine("processes:2") as workers,
        pytest.warns(GenevaeWarning, match="A worker died while it read x: its part is computed again"),
    ):
        found = list(workers.in_order(partial(dies_once, tmp_path), ((number,) for number in range(8)), 8, "x"))
    assert found == list(range(8))


@pytest.mark.slow
def test_a_part_that_kills_every_worker_is_an_error():
    with (
        engine("processes:1") as workers,
        pytest.warns(GenevaeWarning),
        pytest.raises(DataError, match=r"A worker died while it read x.*Use fewer workers"),
    ):
        list(workers.in_order(dies, [(1,)], 1, "x"))


def test_the_users_own_pool_is_not_started_again():
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, pytest.raises(DataError, match="A worker died"):
        list(Engine(pool).in_order(dies, [(1,)], 1, "x"))


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes:2", "submitit:local"])
def test_embed_in_processes_and_jobs_is_the_same(run, file, tmp_path, monkeypatch, executor):
    monkeypatch.chdir(tmp_path)
    expected = gv.embed(run, file)
    gv.embed(run, file, executor=executor, out=tmp_path / "a.h5ad")
    np.testing.assert_array_equal(anndata.read_h5ad("a.h5ad").obsm["X_genevae"], expected.obsm["X_genevae"])
    assert names_in(tmp_path) == ["a.h5ad"]


def test_blocks_in_files_come_back_as_they_were(tmp_path):
    block = {
        "X": sparse.random(5, 7, 0.3, format="csr", dtype=np.float32, random_state=0),
        "obs/text": np.array(["a", "bb", "", "é", "c"]),
        "obs/date": np.array(["2026-01-01", "NaT"], "datetime64[ns]"),
        "obs/flag": np.array([True, False]),
        "obsm/columns": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        "obsm/none": np.zeros((0, 4), np.float32),
    }
    with (tmp_path / "part").open("wb") as file:
        for _ in range(2):
            _write_block(file, block)
    for found in _read_blocks(tmp_path / "part"):
        assert list(found) == list(block)
        for name, rows in block.items():
            assert found[name].dtype == rows.dtype
            one, other = (x.toarray() if sparse.issparse(x) else x for x in (found[name], rows))
            np.testing.assert_array_equal(one, other)
    with (tmp_path / "part").open("wb") as file, pytest.raises(TypeError, match="object"):
        _write_block(file, {"obs/any": np.array([object()])})
