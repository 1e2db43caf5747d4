"""The loader: its minibatches are the source's rows, with their codes, sizes and numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from genevae.cells import Cells
from genevae.data import loader as loading
from genevae.data.loader import Loader, to_rows
from genevae.data.sampler import InOrder, Shuffled
from genevae.data.schema import Schema
from genevae.data.transforms.transform import LogNormalise
from genevae.data.value_kind import Kind
from genevae.errors import DataError
from genevae.io.cache import InMemoryMatrix
from genevae.io.formats import FileSource, MemorySource
from genevae.io.source import Panels

N, G = 37, 6
GENES = tuple(f"G{i}" for i in range(G))


def counts() -> np.ndarray:
    x = np.random.default_rng(0).poisson(1.0, (N, G)).astype(np.float32)
    x[4] = 0
    return x


def loader_of(x, sampler, stored: bool = True, transform=None, kept: bool = True) -> Loader:
    rng = np.random.default_rng(1)
    obs = pd.DataFrame({"type": rng.choice(list("abc"), N), "dose": rng.normal(size=N)},
                       index=[f"cell{i}" for i in range(N)])  # fmt: skip
    matrix = InMemoryMatrix(sparse.csr_matrix(x) if stored else x)
    source = MemorySource("x", matrix.x_ng, GENES, obs) if kept else FileSource("x", matrix, GENES, obs)
    schema = Schema.fit(GENES, obs, Kind.COUNTS, condition=["type"], continuous=["dose"])
    return Loader(source, schema if transform is None else schema.with_transform(transform), sampler)


@given(st.booleans(), st.booleans(), st.integers(2, 20), st.integers(0, 3))
def test_minibatches_are_the_sources_rows_and_codes(stored, kept, batch_size, epoch):
    x = counts()
    loader = loader_of(x, Shuffled(np.arange(N), batch_size, 5, block=3, buffer=15), stored, kept=kept)
    codes = pd.Categorical(loader.source.obs["type"]).codes
    seen = []
    for cells in loader.epoch(epoch):
        rows = cells.row_n.numpy()
        np.testing.assert_array_equal(cells.x.dense().numpy(), x[rows])
        np.testing.assert_array_equal(cells.condition.codes["type"].numpy(), codes[rows])
        expected = loader.schema["dose"].encode(loader.source.obs["dose"])[cells.row_n]
        assert torch.equal(cells.condition.values["dose"], expected)
        np.testing.assert_allclose(cells.condition.size_n1.squeeze(-1).numpy(), np.maximum(x[rows].sum(1), 1e-6))
        seen += rows.tolist()
    assert sorted(seen) == list(range(N))


@pytest.mark.parametrize(("rate", "as_csr"), [(0.2, True), (3.0, False)])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_how_minibatches_are_stored_depends_on_the_values_alone(rate, as_csr, stored, kept):
    x = np.random.default_rng(0).poisson(rate, (N, G)).astype(np.float32)
    sampler = Shuffled(np.arange(N), 8, 5, block=3, buffer=15)
    here, there = loader_of(x, sampler, stored, kept=kept), loader_of(x, sampler)
    for ours, theirs in zip(here, there, strict=True):
        assert ours.x.is_sparse == theirs.x.is_sparse == as_csr
        assert torch.equal(ours.x.values, theirs.x.values)
        assert torch.equal(ours.condition.size_n1, theirs.condition.size_n1)


@pytest.mark.parametrize("kept", [True, False])
@given(st.integers(0, 12))
def test_an_epoch_can_start_at_any_minibatch(kept, n_seen):
    def make() -> Loader:
        return loader_of(counts(), Shuffled(np.arange(N), 4, 5, block=3, buffer=15), kept=kept)

    whole = [cells.row_n.tolist() for cells in make().epoch(2)]
    again = make()
    assert [cells.row_n.tolist() for cells in again.epoch(2, n_seen)] == whole[n_seen:]
    assert again.sizes(2, n_seen) == [len(rows) for rows in whole[n_seen:]]
    assert [cells.row_n.tolist() for cells in again.epoch(3)] == [cells.row_n.tolist() for cells in make().epoch(3)]


def test_cells_say_which_genes_were_measured():
    x = sparse.csr_matrix(counts())
    panels = Panels(np.arange(N) % 2, np.array([[True] * G, [True, False] * (G // 2)]))
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(N)])
    for source in (
        MemorySource("x", x, GENES, obs, {}, panels),
        FileSource("x", InMemoryMatrix(x), GENES, obs, {}, panels),
    ):
        for cells in Loader(source, Schema(GENES, Kind.COUNTS), Shuffled(np.arange(N), 8)):
            np.testing.assert_array_equal(cells.condition.measured_ng.numpy(), panels.measured_pg[cells.row_n % 2])


@pytest.mark.parametrize("stored", [True, False])
def test_minibatches_for_a_gpu_are_pinned_and_copied_without_waiting(stored, monkeypatch):
    pinned, copied = [], []

    def pin(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    def to(tensor, device, dtype=None, *, non_blocking=False):
        copied.append((tensor, str(device), non_blocking))
        return tensor if dtype is None else tensor.type(dtype)

    loader = loader_of(counts(), Shuffled(np.arange(N), 8), stored)
    expected = [cells.x.dense() for cells in loader]
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "pin_memory", pin)
        patch.setattr(torch.Tensor, "to", to)
        assert all(torch.equal(c.x.dense(), x) for c, x in zip(loader.on("cuda"), expected, strict=True))
        assert not pinned  # without a GPU, memory cannot be pinned
        patch.setattr(torch.cuda, "is_available", lambda: True)
        for cells, x in zip(loader.on("cuda"), expected, strict=True):
            copied.clear()
            assert torch.equal(cells.to("cuda").x.dense(), x)
            assert {device for _, device, _ in copied} == {"cuda"}
            assert all(non_blocking for _, _, non_blocking in copied)
            assert all(any(tensor is each for each in pinned) for tensor, _, _ in copied)
            assert len(copied) == len(set(map(id, [t for t, _, _ in copied]))) >= 3
            cells.to("cpu")  # a copy back is waited for, as its values are used at once
            assert not copied[-1][2]
        pinned.clear()
        list(loader.on("cpu"))
        assert not pinned


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("values", ["counts", "large", "fractions"])
def test_cells_that_stay_on_a_device_make_the_same_minibatches(values, stored, monkeypatch):
    monkeypatch.setattr(loading, "BUFFER", 10)
    x = {"counts": counts(), "large": 200 * counts(), "fractions": counts() / 3}[values]
    x[:, 3:] *= not stored  # most are zero: CSR
    sampler = Shuffled(np.arange(N), 8, 5, block=3, buffer=15)
    transform = LogNormalise(100.0) if values == "fractions" else None
    loader = loader_of(x, sampler, stored, transform)
    resident = loader.resident(torch.device("cpu"), 10**6)
    assert resident._resident.values.dtype == (torch.uint8 if values == "counts" else torch.float32)
    for epoch, first in ((0, 0), (1, 2)):
        for ours, theirs in zip(resident.epoch(epoch, first), loader.epoch(epoch, first), strict=True):
            assert ours.x.is_sparse == theirs.x.is_sparse == stored
            assert torch.equal(ours.x.values, theirs.x.values)
            assert torch.equal(ours.x.dense(), theirs.x.dense())
            assert torch.equal(ours.row_n, theirs.row_n)
            for name in ("codes", "values"):
                one, other = getattr(ours.condition, name), getattr(theirs.condition, name)
                assert one.keys() == other.keys()
                assert all(torch.equal(one[key], other[key]) for key in one)
            assert torch.equal(ours.condition.size_n1, theirs.condition.size_n1)


def test_only_cells_that_are_used_stay_on_a_device():
    x = counts()
    x[20] = np.nan
    rows, others = np.array([7, 3, 5, 3]), InOrder(np.array([30, 36]), 4)
    loader = loader_of(x, InOrder(rows, 4))
    resident = loader.resident(torch.device("cpu"), 10**6, others)
    assert len(resident._resident.condition.size_n1) == 5
    for one, other in ((resident, loader), (resident.over(others), loader.over(others))):
        for ours, theirs in zip(one, other, strict=True):
            assert torch.equal(ours.row_n, theirs.row_n)
            assert torch.equal(ours.x.dense(), theirs.x.dense())
            assert torch.equal(ours.condition.codes["type"], theirs.condition.codes["type"])
    with pytest.raises(DataError, match="cell20"):
        loader.resident(torch.device("cpu"), 10**6, InOrder(np.array([20]), 4))


def test_zeros_below_zero_and_values_that_a_byte_does_not_hold_keep_their_bits():
    for value in (-0.0, -1.0, 255.0, 256.0, 0.5, 1e30):
        x = np.full((N, G), value, np.float32)
        x[:, 3:] = 1
        loader = loader_of(x, InOrder(np.arange(N), 8), stored=False)
        resident = loader.resident(torch.device("cpu"), 10**6)
        assert (resident._resident.values.dtype is torch.uint8) == (value == 255)
        for ours, theirs in zip(resident, loader, strict=True):
            assert torch.equal(ours.x.values.view(torch.int32), theirs.x.values.view(torch.int32))


@pytest.mark.parametrize("stored", [True, False])
def test_cells_stay_on_a_device_only_where_they_fit_and_are_in_memory(stored, monkeypatch):
    monkeypatch.setattr(loading, "BUFFER", 10)
    sampler, cpu = Shuffled(np.arange(N), 8), torch.device("cpu")
    x = counts()
    x[:, 3:] *= not stored
    loader = loader_of(x, sampler, stored)
    kept = loader.resident(cpu, 10**6)._resident
    tensors = [kept.values, kept.condition.size_n1, kept.condition.codes["type"], kept.condition.values["dose"]]
    tensors += [kept.gene_e, kept.start_n] if stored else []
    n_bytes = sum(tensor.nbytes for tensor in tensors)
    assert loader.resident(cpu, 2 * n_bytes - 40) is loader
    assert loader.resident(cpu, 4 * n_bytes) is not loader
    of_disk = loader_of(x, sampler, stored, kept=False)
    assert of_disk.resident(cpu, 10**6) is of_disk

    def full(*_):
        raise torch.OutOfMemoryError("there is no memory")

    monkeypatch.setattr(Cells, "to", full)
    assert loader.resident(cpu, 10**6) is loader


@pytest.mark.parametrize("n_threads", [2, 5])
def test_threads_that_read_change_no_minibatch_and_raise_its_errors(n_threads):
    x, sampler = counts(), Shuffled(np.arange(N), 4, block=2, buffer=8)
    one, several = (list(loader_of(x, sampler, kept=False).on("cpu", n).epoch(1)) for n in (1, n_threads))
    for a, b in zip(one, several, strict=True):
        assert torch.equal(a.row_n, b.row_n)
        assert torch.equal(a.x.dense(), b.x.dense())
    x[11, 2] = np.nan
    with pytest.raises(DataError, match="cell11"):
        list(loader_of(x, sampler, kept=False).on("cpu", n_threads))
    first = next(iter(loader_of(counts(), sampler, kept=False).on("cpu", n_threads)))  # the rest is not read
    assert first.n_cells == 4


def test_the_length_is_the_number_of_minibatches():
    for batch_size in (2, 6, 12, 36, 37, 50):
        loader = loader_of(counts(), Shuffled(np.arange(N), batch_size))
        assert len(loader) == sum(1 for _ in loader)


def test_iterating_is_the_first_epoch_and_can_be_repeated():
    loader = loader_of(counts(), Shuffled(np.arange(N), 8))
    first, again, named = ([cells.row_n.tolist() for cells in each] for each in (loader, loader, loader.epoch(0)))
    assert first == again == named
    assert first != [cells.row_n.tolist() for cells in loader.epoch(1)]


@pytest.mark.parametrize("stored", [True, False])
def test_the_transform_is_applied_with_each_cells_own_size(stored):
    x = counts()
    loader = loader_of(x, InOrder(np.arange(N), 10), stored, LogNormalise(100.0))
    found = torch.cat([cells.x.dense() for cells in loader]).numpy()
    np.testing.assert_allclose(found, np.log1p(100 * x / np.maximum(x.sum(1, keepdims=True), 1)), rtol=1e-5)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused_naming_cell_and_gene(stored, bad):
    x = counts()
    x[11, 2], x[30, 5] = bad, bad
    for sampler in (InOrder(np.arange(N), 100), InOrder(np.arange(N)[::-1].copy(), 100)):
        with pytest.raises(DataError) as error:
            list(loader_of(x, sampler, stored))
        for name in ("cell11", "cell30", "G2", "G5", "x has values"):
            assert name in str(error.value)
        assert "cell12" not in str(error.value)


def test_codes_are_those_of_the_samplers_rows_alone():
    rows = np.array([3, 1, 20])
    loader = loader_of(counts(), InOrder(rows, 2))
    expected = pd.Categorical(loader.source.obs["type"]).codes[rows]
    np.testing.assert_array_equal(loader.codes("type").numpy(), expected)
    assert len(loader_of(counts(), InOrder(np.empty(0, dtype=np.int64), 2)).codes("type")) == 0


def test_an_empty_cell_has_a_size_above_zero():
    cells = next(iter(loader_of(counts(), InOrder(np.array([4, 5]), 2))))
    assert cells.condition.size_n1[0] > 0
    assert cells.x.dense()[0].sum() == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint16])
def test_any_number_type_becomes_float32(dtype):
    x = counts().astype(dtype)
    for rows in (to_rows(x), to_rows(sparse.csr_matrix(x))):
        assert rows.values.dtype == torch.float32
        np.testing.assert_array_equal(rows.dense().numpy(), x)
