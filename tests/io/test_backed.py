"""Reading from disk: the same rows as in memory, genes that some files lack are missing, and changes are noticed."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import genevae as gv
from genevae.cells import Cells, ExpressionRows
from genevae.data.genes import match_genes
from genevae.data.loader import Loader
from genevae.data.prefetch import prefetched
from genevae.data.sampler import InOrder, Shuffled
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.errors import DataError, GeneError
from genevae.io.cache import cached
from genevae.io.concat import concat_sources
from genevae.io.formats import MemorySource, ReadOptions, in_memory_if_fits, open_source
from genevae.io.source import FileSource, Source
from genevae.preprocessing.convert import convert

N, G = 61, 17


def cells(n: int = N, seed: int = 0, rate: float = 0.4, genes: range = range(G)) -> AnnData:
    rng = np.random.default_rng(seed)
    x = rng.poisson(rate, (n, len(genes))).astype(np.float32)
    x[n // 2] = 0
    obs = pd.DataFrame(
        {"type": pd.Categorical(rng.choice(["T", "B"], n)), "age": rng.normal(size=n)},
        index=[f"cell{seed}-{i}" for i in range(n)],
    )
    return AnnData(sparse.csr_matrix(x), obs=obs, var=pd.DataFrame(index=[f"G{g}" for g in genes]))


def dense(x: Any) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def whole(source: Source) -> np.ndarray:
    return dense(source.read(np.arange(len(source))))


# --- any rows ---------------------------------------------------------------------------------------------------------


def _h5ad(compression: Any) -> Callable[[AnnData, Path], Source]:
    def make(adata: AnnData, folder: Path) -> Source:
        adata.write_h5ad(folder / "c.h5ad", compression=compression)
        return open_source(ReadOptions(path=folder / "c.h5ad", keep="disk"))

    return make


def _converted(name: str, **words: Any) -> Callable[[AnnData, Path], Source]:
    def make(adata: AnnData, folder: Path) -> Source:
        convert(adata, folder / name, **words)
        return open_source(ReadOptions(path=folder / name, keep="disk"))

    return make


def _as_dense(make: Callable[[AnnData, Path], Source]) -> Callable[[AnnData, Path], Source]:
    def made(adata: AnnData, folder: Path) -> Source:
        filled = adata.copy()
        filled.X = adata.X.toarray()
        return make(filled, folder)

    return made


def _shelved(keep: Any, as_csr: bool = True) -> Callable[[AnnData, Path], Source]:
    def make(adata: AnnData, folder: Path) -> Source:
        parts = [adata.X[start : start + 9] for start in range(0, N, 9)]
        matrix = cached((part if as_csr else part.toarray() for part in parts), G, keep)
        return FileSource("shelf", matrix, tuple(adata.var_names), adata.obs)

    return make


def _stacked(adata: AnnData, folder: Path) -> Source:
    for number, (start, stop) in enumerate([(0, 20), (20, 21), (21, N)]):
        adata[start:stop].write_h5ad(folder / f"p{number}.h5ad")
    return open_source(ReadOptions(path=folder, keep="disk"))


def _placed(adata: AnnData, folder: Path) -> Source:
    adata[:, ::-1].write_h5ad(folder / "c.h5ad")
    return match_genes(open_source(ReadOptions(path=folder / "c.h5ad", keep="disk")), list(adata.var_names))


SOURCES = {
    "h5ad": _h5ad(None),
    "h5ad gzip": _h5ad("gzip"),
    "h5ad lzf": _h5ad("lzf"),
    "h5ad dense": _as_dense(_h5ad("gzip")),
    "zarr": _converted("c.zarr"),
    "batch": _converted("c", cells_per_file=25),
    "h5ad files": _converted("c", to="h5ad", cells_per_file=25),
    "zarr stores": _converted("c", to="zarr", cells_per_file=25),
    "shelf in memory": _shelved("memory"),
    "shelf on disk": _shelved("disk"),
    "shelf on disk, dense": _shelved("disk", as_csr=False),
    "stack": _stacked,
    "genes in another order": _placed,
}


@pytest.fixture(scope="module", params=SOURCES.items(), ids=SOURCES)
def backed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, np.ndarray]:
    """A source that reads from disk, and what it holds."""
    name, make = request.param
    adata = cells(rate=3.0 if "dense" in name else 0.15)
    source = make(adata, tmp_path_factory.mktemp("backed"))
    assert not isinstance(source, MemorySource)
    assert sparse.issparse(source.read(np.arange(2))) == ("dense" not in name)
    return source, adata.X.toarray()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, N - 1), max_size=90))
def test_any_rows_from_disk_are_those_in_memory(backed, rows) -> None:
    source, x = backed
    rows = np.array(rows, dtype=np.int64)
    found = source.read(rows)
    assert found.shape == (len(rows), G)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(dense(found), x[rows])
    if sparse.issparse(found):
        assert found.has_sorted_indices


def test_in_memory_is_the_same(backed) -> None:
    source, x = backed
    settled = in_memory_if_fits(source, "memory")
    assert isinstance(settled, MemorySource)
    np.testing.assert_array_equal(dense(settled.x_ng), x)
    assert settled.genes == source.genes
    pd.testing.assert_frame_equal(settled.obs, source.obs)


# --- many files -------------------------------------------------------------------------------------------------------


@st.composite
def several(draw: st.DrawFn) -> list[AnnData]:
    """Some AnnData objects that share at least one gene, whose other genes and obs columns differ."""
    parts = []
    for seed in range(draw(st.integers(1, 4))):
        genes = [0, *draw(st.lists(st.integers(1, 9), unique=True, max_size=9))]
        part = cells(draw(st.integers(1, 8)), seed, 1.0, genes)  # type: ignore[arg-type]
        if draw(st.booleans()):
            del part.obs["age"]
        if draw(st.booleans()):
            part.obs["type"] = pd.Categorical(np.where(np.arange(part.n_obs) % 2, "T", f"only{seed}"))
        parts.append(part[:, draw(st.permutations(range(part.n_vars)))].copy())
    return parts


@given(parts=several(), join=st.sampled_from(["inner", "outer"]), on_disk=st.booleans(), seed=st.integers(0, 99))
def test_a_stack_is_the_tables_one_under_the_other(parts, join, on_disk, seed) -> None:
    sources: list[Source] = []
    for number, part in enumerate(parts):
        made: Source = open_source(part)
        if on_disk:
            made = FileSource(f"file{number}.h5ad", cached([part.X], part.n_vars, "disk"), made.genes, made.obs)
        sources.append(MemorySource(f"file{number}.h5ad", made.x_ng, made.genes, made.obs) if not on_disk else made)
    found = concat_sources(sources, "all", join)
    frames = [part.to_df() for part in parts]
    expected = pd.concat(frames, join=join)[list(found.genes)]
    measured = np.repeat([[gene in frame for gene in found.genes] for frame in frames], list(map(len, frames)), axis=0)
    assert set(found.genes) == set(expected.columns)
    rows = np.random.default_rng(seed).integers(0, len(found), 12)
    np.testing.assert_array_equal(dense(found.read(rows)), expected.fillna(0).to_numpy(dtype=np.float32)[rows])
    if measured.all():
        assert found.panels is None
    else:
        np.testing.assert_array_equal(found.panels.measured_pg[found.panels.panel_n], measured)
    assert list(found.obs.index) == list(expected.index)
    united = pd.concat([part.obs.astype({"type": str}) for part in parts])
    assert found.obs["type"].astype(str).tolist() == united["type"].tolist()
    if "age" in united:
        np.testing.assert_array_equal(found.obs["age"].to_numpy(dtype=float), united["age"].to_numpy(dtype=float))
    assert found.obs["file"].astype(str).tolist() == [
        f"file{n}" for n, part in enumerate(parts) for _ in range(len(part))
    ]


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files that share genes 4 to 11 of 16."""
    folder = tmp_path_factory.mktemp("panels")
    cells(60, 1, 1.0, range(12)).write_h5ad(folder / "a.h5ad")
    cells(50, 2, 1.0, range(4, 16)).write_h5ad(folder / "b.h5ad")
    return folder


@pytest.fixture(scope="module")
def joined(panels: Path) -> Any:
    """A model that was trained on both, with all of their genes."""
    return gv.fit(
        ReadOptions(path=panels, join="outer"), condition=["type"], epochs=2, n_latent=2, hidden=[8], progress=False,
        device="cpu",
    )  # fmt: skip


def test_a_model_of_files_with_different_genes_is_asked_about_the_same_files(panels, joined) -> None:
    files = ReadOptions(path=panels / "*.h5ad", join="outer")
    assert len(joined.schema.genes) == 16
    on_disk = gv.embed(joined, ReadOptions(path=panels, join="outer", keep="disk"))
    np.testing.assert_array_equal(gv.embed(joined, files).obsm["X_genevae"], on_disk.obsm["X_genevae"])
    assert np.isfinite(on_disk.obsm["X_genevae"]).all()
    denoised = gv.denoise(joined, files, n_draws=2)
    assert denoised.shape == (110, 16)
    assert np.isfinite(denoised.X).all()
    assert set(denoised.obs["file"]) == {"a", "b"}
    one = gv.embed(joined, panels / "b.h5ad")
    np.testing.assert_allclose(one.obsm["X_genevae"], on_disk.obsm["X_genevae"][60:], rtol=1e-5, atol=1e-6)


def test_no_gene_in_common_is_named(tmp_path) -> None:
    cells(9, 1, 1.0, range(5)).write_h5ad(tmp_path / "a.h5ad")
    cells(9, 2, 1.0, range(5, 9)).write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(GeneError, match="--join outer"):
        open_source(tmp_path)
    assert open_source(ReadOptions(path=tmp_path, join="outer")).genes == tuple(f"G{i}" for i in range(9))


@pytest.mark.parametrize("value", [1.0, 7.0, 300.0])
def test_what_stands_where_nothing_was_measured_does_not_count(joined, panels, value) -> None:
    """The bound and the posterior of a cell are the same, whatever value stands at an entry that was not measured."""
    source = open_source(ReadOptions(path=panels, join="outer"))
    minibatch = next(iter(Loader(source, joined.schema, InOrder(np.arange(len(source)), len(source)))))
    measured = minibatch.condition.measured_ng
    assert measured is not None
    assert not measured.all()
    x_ng = minibatch.x.dense()
    other = Cells(ExpressionRows.from_dense(x_ng.masked_fill(~measured, value)), minibatch.condition, minibatch.row_n)
    module = joined.module.eval()
    with torch.no_grad():
        z = module.posterior(minibatch).mean
        p = module.likelihood(z, minibatch.condition)
        ours = p.log_prob_n(minibatch.x, measured)
        assert torch.allclose(ours, p.log_prob_n(other.x, measured), rtol=1e-5, atol=1e-4)
        assert not torch.allclose(ours, p.log_prob_n(other.x), rtol=1e-3), "an entry that is measured does count"
        fewer = [p.log_prob(x_ng)[row, measured[row]].sum() for row in range(len(x_ng))]
        assert torch.allclose(ours, torch.stack(fewer), rtol=1e-4, atol=1e-3)


def test_a_proportion_of_what_was_measured_sums_to_one(joined, panels) -> None:
    """A gene that a file lacks takes nothing of the cell's size: the expected counts of the others sum to it."""
    source = open_source(ReadOptions(path=panels, join="outer"))
    minibatch = next(iter(Loader(source, joined.schema, InOrder(np.arange(len(source)), len(source)))))
    measured = minibatch.condition.measured_ng
    with torch.no_grad():
        p = joined.module.eval().likelihood(joined.module.posterior(minibatch).mean, minibatch.condition)
    total = p.mean.masked_fill(~measured, 0).sum(-1)
    assert torch.allclose(total, minibatch.condition.size_n1.squeeze(-1), rtol=1e-3)


# --- changed meanwhile ------------------------------------------------------------------------------------------------


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _replace(path: Path) -> None:
    other = path.with_name("other.h5ad")
    cells(seed=5).write_h5ad(other)
    other.replace(path)


CHANGES = {
    "appended": (_append, "changed while it was being read"),
    "replaced": (_replace, "changed while it was being read"),
    "deleted": (Path.unlink, "can no longer be read"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("many", [False, True])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path, change, said, many) -> None:
    cells().write_h5ad(tmp_path / "first.h5ad")
    if many:
        cells(seed=1).write_h5ad(tmp_path / "second.h5ad")
    source = open_source(ReadOptions(path=tmp_path if many else tmp_path / "first.h5ad", keep="disk"))
    source.read(np.arange(3))
    change(tmp_path / "first.h5ad")
    with pytest.raises(DataError, match=rf"first\.h5ad {said}"):
        source.read(np.arange(3))


def test_training_on_a_file_that_changes_ends_with_its_name(tmp_path) -> None:
    convert(cells(), tmp_path / "cells", cells_per_file=20)
    source = open_source(ReadOptions(path=tmp_path / "cells", keep="disk"))
    schema = Schema.fit(source.genes, source.obs, Kind.COUNTS, condition=["type"])
    minibatches = Loader(source, schema, Shuffled(np.arange(N), 8, 0, block=4, buffer=16)).epoch(0)
    next(minibatches)
    _append(tmp_path / "cells" / "batch_0001.h5")
    with pytest.raises(DataError, match=r"batch_0001\.h5 changed"):
        list(minibatches)
    assert not _prefetchers()


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr", "cells", "cells.csv"])
def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch, name) -> None:
    path = tmp_path / name
    cells().to_df().to_csv(path) if name.endswith(".csv") else convert(cells(), path)
    if os.geteuid():
        path.chmod(0)
    else:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(h5py, "File", refuse)
        monkeypatch.setattr("zarr.open_group", refuse)
        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"cells.*(Permission denied|may read it)"):
        open_source(path)
    monkeypatch.undo()
    path.chmod(0o700)


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr", "cells"])
def test_a_source_that_was_pickled_opens_its_file_again(tmp_path, name) -> None:
    convert(cells(), tmp_path / name)
    source = open_source(ReadOptions(path=tmp_path / name, keep="disk"))
    source.read(np.arange(3))
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(whole(again), whole(source))
    shutil.rmtree(tmp_path / name) if (tmp_path / name).is_dir() else (tmp_path / name).unlink()
    third = pickle.loads(pickle.dumps(source))  # noqa: S301
    with pytest.raises(DataError, match="cells"):
        third.read(np.arange(3))


# --- memory -----------------------------------------------------------------------------------------------------------


def _peak_of_an_epoch(source: Source, n: int) -> float:
    """The most memory, in MB, that Python holds while an epoch streams by."""
    schema = Schema.fit(source.genes, source.obs, Kind.COUNTS)
    loader = Loader(source, schema, Shuffled(np.arange(n), 256, 0, block=64, buffer=1024))
    tracemalloc.start()
    seen = sum(minibatch.n_cells for minibatch in loader.epoch(0))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert seen == n
    return peak


@pytest.mark.parametrize("name", ["large.h5ad", "large.zarr"])
def test_streaming_takes_memory_that_does_not_grow_with_the_cells(tmp_path, name) -> None:
    """200 MB and 400 MB, were they dense, stream by in a few MB beside a few numbers for every cell."""
    peaks = []
    for n in (10_000, 20_000):
        block = np.random.default_rng(0).poisson(0.01, (1000, 5000)).astype(np.float32)
        x = sparse.vstack([sparse.csr_matrix(block)] * (n // 1000), format="csr")
        convert(AnnData(x, obs=pd.DataFrame(index=np.arange(n).astype(str))), tmp_path / name, overwrite=True)
        source = open_source(ReadOptions(path=tmp_path / name, keep="disk"))
        assert in_memory_if_fits(source, "disk") is source
        peaks.append(_peak_of_an_epoch(source, n))
    assert peaks[1] < 16
    assert peaks[1] < peaks[0] + 5


def test_keeping_on_disk_leaves_expression_there_through_a_fit(tmp_path, monkeypatch) -> None:
    convert(cells(), tmp_path / "cells.h5ad")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("expression was read into memory")

    monkeypatch.setattr("genevae.io.cache.in_memory", refuse)
    gv.fit(
        ReadOptions(path=tmp_path / "cells.h5ad", keep="disk"),
        epochs=1,
        n_latent=2,
        hidden=[8],
        progress=False,
        device="cpu",
    )
    with pytest.raises(AssertionError, match="into memory"):
        gv.fit(ReadOptions(path=tmp_path / "cells.h5ad", keep="memory"), epochs=1, progress=False)


# --- prefetching ------------------------------------------------------------------------------------------------------


def _prefetchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "genevae-prefetch"]


@given(items=st.lists(st.integers()), depth=st.integers(1, 40))
def test_prefetching_keeps_the_order(items, depth) -> None:
    assert list(prefetched(iter(items), depth)) == items
    assert not _prefetchers()


@given(n=st.integers(0, 20), depth=st.integers(1, 8))
def test_what_goes_wrong_in_the_background_is_raised_in_its_place(n, depth) -> None:
    def items() -> Iterator[int]:
        yield from range(n)
        raise DataError("the disk is gone")

    seen = []
    with pytest.raises(DataError, match="the disk is gone"):  # noqa: PT012 - what comes before the error counts
        for item in prefetched(items(), depth):
            seen.append(item)  # noqa: PERF402
    assert seen == list(range(n))
    assert not _prefetchers()


@pytest.mark.parametrize("how", ["close", "break", "error"])
def test_the_thread_ends_when_nobody_asks_for_more(how) -> None:
    made = []

    def endless() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield len(made)

    items = prefetched(endless(), 3)
    assert next(items) == 1
    assert len(_prefetchers()) == 1
    if how == "close":
        items.close()  # type: ignore[attr-defined]
    elif how == "break":
        for _ in items:
            break
        del items
    else:
        with pytest.raises(RuntimeError, match="mine"):
            _fail_within(items)
    assert not _prefetchers()
    assert len(made) <= 8, "no more was made ahead than was allowed"


def _fail_within(items: Iterator[int]) -> None:
    try:
        for _ in items:
            raise RuntimeError("mine")
    finally:
        items.close()  # type: ignore[attr-defined]


def test_an_epoch_that_is_left_early_leaves_no_thread(tmp_path) -> None:
    convert(cells(), tmp_path / "cells.h5ad")
    source = open_source(ReadOptions(path=tmp_path / "cells.h5ad", keep="disk"))
    schema = Schema.fit(source.genes, source.obs, Kind.COUNTS)
    for minibatch in Loader(source, schema, InOrder(np.arange(N), 4, buffer=8)).epoch(0):
        assert minibatch.n_cells == 4
        break
    del minibatch
    assert not _prefetchers()
