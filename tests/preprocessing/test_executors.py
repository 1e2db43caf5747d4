"""Passes over cells on the workers of Dask and of submitit, each on a real local cluster."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pytest

from genevae.errors import DataError
from genevae.io.formats import open_source
from genevae.io.lowlevel.hdf5 import Hdf5Array
from genevae.preprocessing.hvg import highly_variable
from genevae.preprocessing.map_chunks import map_chunks, sum_groups
from genevae.preprocessing.pseudobulk import pseudobulk


@pytest.fixture(scope="module")
def dask() -> Iterator[Executor]:
    """Two workers in processes of their own."""
    distributed = pytest.importorskip("dask.distributed", reason="Dask is not installed: pip install 'genevae[scale]'")
    settings = importlib.import_module("dask").config.set({"distributed.scheduler.allowed-failures": 0})
    words = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        settings,
        distributed.LocalCluster(**words) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as e,
    ):
        yield e


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
    with pytest.raises(DataError, match="A worker died"):
        list(map_chunks(lambda x, with_: os._exit(9), cells, np.arange(100), lambda at: None, 100, executor))


@pytest.mark.slow
def test_a_worker_of_dask_that_dies_is_an_error_that_says_so(cells, dask):
    with pytest.raises(DataError, match="A worker died"):
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
