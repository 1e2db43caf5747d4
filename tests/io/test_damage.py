"""Damaged files: whatever bytes are wrong, a source says so, or gives what was written; it never shows a traceback.

A mutated file is opened and read as a whole in a process of its own, since HDF5 may take down the one it is in. Three
outcomes are admitted:

- what was written, where the damage lies in bytes that nobody reads, or that say the same;
- a DataError that names the file;
- for files of HDF5 and zarr, other names or values of obs and var in a table of the same shape: texts and short
  columns have no checksum there, so that a flipped letter in the name of a cell is a name like any other. Expression
  has one (zlib's in gzip, Fletcher-32 in what genevae writes with LZF or unpacked, CRC-32C in its zarr stores); in
  stores that anndata wrote, it has none. Cell Ranger's file has all packed by zlib, and its folder by gzip, so that
  there nothing may differ. In HDF5, the few bytes that tell which type the numbers have, or that a chunk was not
  packed, are covered by nothing: a mutation in two hundred may change expression through them. The test of
  flipped bytes below shows that the bytes of the numbers themselves are covered.

HDF5 loops for ever on one kind of damage: zeros over the length of a text in its global heap, which it meets on the
way to an attribute. The quick test skips the trial in a process of its own, so such a mutation is counted apart there,
and may be one in fifty of those of an HDF5 file. The slow test has the trial: no hang, no crash, at most 10 s and 2 GB.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from scipy.io import mmwrite

import genevae as gv
from genevae.errors import CategoryError, DataError, GeneError, GenevaeError
from genevae.io.formats import ReadOptions, open_source
from genevae.io.h5ad import ignore_warnings
from genevae.io.lowlevel.soundness import TRUST
from genevae.preprocessing.convert import convert

N, G = 90, 30
PATIENCE = 10.0
"""Seconds after which a reader hangs."""


def cells(n: int = N, seed: int = 0) -> AnnData:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {"type": pd.Categorical(rng.choice(["T cell", "B cell"], n)), "age": rng.normal(size=n)},
        index=[f"cell{i}" for i in range(n)],
    )
    made = AnnData(sparse.csr_matrix(rng.poisson(0.3, (n, G)).astype(np.float32)), obs=obs)
    made.var_names = [f"Gene{i}" for i in range(G)]
    return made


# --- writers ----------------------------------------------------------------------------------------------------------


def write_tenx_h5(adata: AnnData, path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group.create_dataset(name, data=getattr(adata.X, name).astype(np.int32), compression="gzip")
        group["shape"] = np.array(adata.shape[::-1])
        group.create_dataset("barcodes", data=np.array(adata.obs_names, dtype="S"), compression="gzip")
        for name in ("id", "name"):
            group.create_dataset(f"features/{name}", data=np.array(adata.var_names, dtype="S"), compression="gzip")
        types = np.array(["Gene Expression"] * adata.n_vars, dtype="S")
        group.create_dataset("features/feature_type", data=types, compression="gzip")


def write_tenx_folder(adata: AnnData, path: Path, packed: bool = True) -> None:
    path.mkdir()
    mmwrite(path / "matrix.mtx", sparse.coo_matrix(adata.X.T.astype(np.int64)))
    (path / "features.tsv").write_text("".join(f"{gene}\t{gene}\tGene Expression\n" for gene in adata.var_names))
    (path / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in adata.obs_names))
    for file in list(path.iterdir()) if packed else ():
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()


def write_chunks(adata: AnnData, path: Path) -> None:
    path.mkdir()
    for number, rows in enumerate((slice(0, 40), slice(40, None))):
        sparse.save_npz(path / f"x_counts_{number}.npz", adata.X[rows])
        adata.obs[rows].to_pickle(path / f"x_metadata_{number}.pkl")


def write_zarr(adata: AnnData, path: Path) -> None:
    with ignore_warnings():
        adata.write_zarr(path)


@dataclass(frozen=True)
class Kind:
    """A format: how it is written, whether HDF5 reads it, and what of it may differ unseen."""

    name: str
    write: Callable[[AnnData, Path], None]
    is_hdf5: bool
    unprotected: tuple[str, ...]


KINDS = {
    "h5ad gzip": Kind("cells.h5ad", convert, True, ("obs", "cells", "genes")),
    "h5ad lzf": Kind("cells.h5ad", lambda a, p: convert(a, p, compression="lzf"), True, ("obs", "cells", "genes")),
    "zarr": Kind("cells.zarr", convert, False, ("obs", "cells", "genes")),
    "zarr of anndata": Kind("cells.zarr", write_zarr, False, ("obs", "cells", "genes", "x")),
    "batch": Kind("cells", lambda a, p: convert(a, p, cells_per_file=40), True, ("obs", "cells", "genes")),
    "10x h5": Kind("cells.h5", write_tenx_h5, True, ()),
    "10x mtx": Kind("cells", write_tenx_folder, False, ()),
}
EVERY = ("shape", "x", "obs", "cells", "genes")
UNPACKED = {
    "mtx in text": Kind("cells", lambda a, p: write_tenx_folder(a, p, packed=False), False, EVERY),
    "csv": Kind("cells.csv", lambda a, p: a.to_df().to_csv(p), False, EVERY),
    "csv gzip": Kind("cells.csv.gz", lambda a, p: a.to_df().to_csv(p), False, ()),
    "parquet": Kind("cells.parquet", lambda a, p: a.to_df().to_parquet(p), False, EVERY),
    "chunks": Kind("cells", write_chunks, False, EVERY),
}
"""Formats of which most have no checksum, so that all may differ: a reader must only survive."""
N_MUTATED = int(os.environ.get("GENEVAE_MUTATED_FILES", "5000"))
"""Files of the slow test, over all formats."""

# --- a reader in a process of its own ---------------------------------------------------------------------------------

READER = """
import hashlib, json, resource, sys
import numpy as np
from scipy import sparse
from genevae.io.formats import open_source
from genevae.errors import DataError, GeneError
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def digest(text):
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")).hexdigest()
def look(path):
    source = open_source(path)
    x = source.read(np.arange(len(source)))
    x = x.toarray() if sparse.issparse(x) else x
    return {
        "shape": [int(n) for n in x.shape], "x": digest(np.ascontiguousarray(x, dtype=np.float32).tobytes()),
        "genes": digest(repr(source.genes)), "cells": digest(repr(list(source.obs.index))),
        "obs": digest(repr({str(name): source.obs[name].tolist() for name in source.obs})),
    }
print("ready", flush=True)
for line in sys.stdin:
    try:
        answer = look(line.rstrip("\\n"))
    except (DataError, GeneError) as error:
        answer = {"refused": str(error)}
    except BaseException as error:
        answer = {"error": repr(error)[:300]}
    answer["grown"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps(answer), flush=True)
"""


class Reader:
    """A process that opens and reads what it is told, and is replaced when it dies or hangs."""

    def __init__(self, trust: bool = True) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.trusts = trust
        self.environment = {**os.environ, TRUST: str(int(trust)), "XDG_CACHE_HOME": os.devnull}
        self.slowest, self.largest = 0.0, 0

    def _start(self) -> subprocess.Popen[str]:
        started = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=self.environment,
        )  # fmt: skip
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        return started

    def look(self, path: Path) -> dict[str, Any]:
        self.process = process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        started = time.monotonic()
        is_there, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if is_there else None
        if line:
            found: dict[str, Any] = json.loads(line)
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.largest = max(self.largest, found.pop("grown"))
            return found
        self.close()
        return {"hung": True} if line is None else {"crashed": True}

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


# --- mutations --------------------------------------------------------------------------------------------------------


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Flip, zero, insert, remove or cut some bytes."""
    way = draw.choice(["flip", "flip", "flip", "zero", "insert", "remove", "cut"])
    at = draw.randrange(max(len(content), 1))
    if way == "flip":
        return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :] if content else b"x"
    if way == "zero":
        n = min(draw.choice([1, 4, 16, 64, 512]), len(content) - at)
        return content[:at] + bytes(n) + content[at + n :]
    if way == "insert":
        return content[:at] + draw.randbytes(draw.choice([1, 3, 64])) + content[at:]
    if way == "remove":
        return content[:at] + content[at + draw.choice([1, 5, 100]) :]
    return content[:at]


def damage(path: Path, whole: Path, draw: random.Random) -> str:
    """Put a mutated copy of something in a place; say which file of it was changed."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if whole.is_file():
        path.write_bytes(mutated(whole.read_bytes(), draw))
        return path.name
    shutil.copytree(whole, path)
    file = draw.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    file.write_bytes(mutated(file.read_bytes(), draw))
    return str(file.relative_to(path))


def judge(kind: Kind, trusted: bool, whole: dict[str, Any], found: dict[str, Any]) -> str:
    """Say in a word what became of a mutation; what is not admitted ends in an exclamation mark."""
    if "refused" in found:
        return "refused" if "cells" in found["refused"] else "refused without a name!"
    if "hung" in found and trusted and kind.is_hdf5:
        return "hung in HDF5"
    if "shape" not in found:
        return f"{next(iter(found))}!"
    differing = {name for name in whole if whole[name] != found[name]}
    if not differing:
        return "equal"
    if differing <= set(kind.unprotected):
        return "others' names"
    if kind.is_hdf5 and "shape" not in differing:
        return "misled by HDF5's tables"
    return f"{sorted(differing)} differ!"


def survive(kind: Kind, folder: Path, reader: Reader, n: int, seed: int) -> Counter[str]:
    whole, path = folder / "whole" / kind.name, folder / kind.name
    whole.parent.mkdir()
    kind.write(cells(), whole)
    expected = reader.look(whole)
    assert expected["shape"] == [N, G]
    outcomes: Counter[str] = Counter()
    bad = {}
    for number in range(n):
        draw = random.Random(f"{seed} {number}")  # noqa: S311 - damage, not secrets
        file = damage(path, whole, draw)
        found = reader.look(path)
        verdict = judge(kind, reader.trusts, expected, found)
        outcomes[verdict] += 1
        if verdict.endswith("!"):
            bad[number, file] = (verdict, found)
    assert not bad, f"{len(bad)} of {n}: {dict(list(bad.items())[:5])}"
    assert outcomes["refused"] > n / 20, outcomes
    assert outcomes["hung in HDF5"] <= n / 50, outcomes
    assert outcomes["misled by HDF5's tables"] <= n / 200, outcomes
    return outcomes


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_damage_is_named(kind: Kind, tmp_path: Path, reader: Reader) -> None:
    survive(kind, tmp_path, reader, 40, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", {**KINDS, **UNPACKED}.values(), ids={**KINDS, **UNPACKED})
def test_much_damage_is_named_and_no_reader_dies_or_hangs(kind: Kind, tmp_path: Path) -> None:
    reader = Reader(trust=False)
    n = -(-N_MUTATED // len({**KINDS, **UNPACKED}))
    try:
        outcomes = survive(kind, tmp_path, reader, n, seed=2)
    finally:
        reader.close()
    print(outcomes, f"slowest {reader.slowest:.1f} s, grown by {reader.largest / 2**20:.2f} GB")  # noqa: T201
    assert not outcomes["hung in HDF5"]
    assert reader.slowest < 10  # the limit after which the trial itself would be a hang
    assert reader.largest < 2 * 2**20


def _chunk_bytes(path: Path, dataset: str) -> list[int]:
    """Where the packed bytes of a dataset lie in its file."""
    with h5py.File(path) as file:
        stored = file[dataset].id
        infos = [stored.get_chunk_info(number) for number in range(stored.get_num_chunks())]
    return [at for info in infos for at in range(info.byte_offset, info.byte_offset + info.size)]


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_every_flipped_byte_of_expression_is_seen(tmp_path, compression) -> None:
    """The bytes of the matrix are covered by a checksum, whatever packs them."""
    whole, path = tmp_path / "whole.h5ad", tmp_path / "cells.h5ad"
    convert(cells(), whole, compression=compression)
    content = whole.read_bytes()
    draw = random.Random(0)  # noqa: S311
    places = [at for name in ("X/data", "X/indices", "X/indptr") for at in _chunk_bytes(whole, name)]
    for at in draw.sample(places, 60):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :])
        try:
            found = open_source(path).read(np.arange(N))
        except DataError as error:
            assert "cells.h5ad" in str(error)  # noqa: PT017 - an equal matrix will do as well
        else:
            assert (found != cells().X).nnz == 0


# --- files that are whole, and do not fit -----------------------------------------------------------------------------


def fit(data: Any, **words: Any) -> Any:
    return gv.fit(data, epochs=1, n_latent=2, hidden=[8], progress=False, device="cpu", **words)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_tables_that_disagree_with_the_matrix_are_named(tmp_path, suffix) -> None:
    path = tmp_path / f"cells{suffix}"
    convert(cells(), path)
    import zarr
    from anndata.io import write_elem

    for table, length in (("obs", N - 1), ("var", G + 2)):
        index = pd.DataFrame(index=[f"n{i}" for i in range(length)])
        if suffix == ".h5ad":
            with h5py.File(path, "a") as file:
                del file[table]
                write_elem(file, table, index)
        else:
            with ignore_warnings():
                write_elem(zarr.open_group(path, mode="a"), table, index)
        with pytest.raises(DataError, match=rf"cells{suffix} is inconsistent.*{N} × {G}.*{length}"):
            open_source(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        convert(cells(), path)


def test_rows_of_batch_files_that_disagree_are_named(tmp_path) -> None:
    convert(cells(), tmp_path / "cells", cells_per_file=40)
    with h5py.File(tmp_path / "cells" / "batch_0001.h5", "a") as file:
        short = file["obs/age"][:-1]
        del file["obs/age"]
        file["obs/age"] = short
    with pytest.raises(DataError, match=r"batch_0001\.h5"):
        open_source(tmp_path / "cells")


def test_a_missing_column_of_obs_is_named_with_its_nearest(tmp_path) -> None:
    convert(cells(), tmp_path / "cells.h5ad")
    with pytest.raises(CategoryError, match=r"no.*'typ'.*Did you mean 'type'"):
        fit(tmp_path / "cells.h5ad", condition=["typ"])


@pytest.mark.parametrize("value", [-1.0, 0.5, np.nan, np.inf])
@pytest.mark.parametrize("keep", ["memory", "disk"])
@pytest.mark.parametrize("at", [0, 77])
def test_values_that_are_no_counts_are_named_where_counts_are_asked_for(tmp_path, value, keep, at) -> None:
    adata = cells()
    x = adata.X.tolil()
    x[at, 3] = value
    adata.X = x.tocsr()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(GenevaeError, match=r"cells\.h5ad"):
        fit(ReadOptions(path=tmp_path / "cells.h5ad", keep=keep), recipe="nb")


def test_genes_that_come_twice_or_are_missing_are_named(tmp_path) -> None:
    model = fit(cells())
    adata = cells()
    with ignore_warnings():
        adata.var_names = ["Gene1", *adata.var_names[1:]]
        adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(GeneError, match=r"Gene1 \(2 times\)"):
        gv.embed(model, tmp_path / "cells.h5ad")
    cells()[:, 25:].write_h5ad(tmp_path / "fewer.h5ad")
    with pytest.raises(GeneError, match=r"fewer\.h5ad lacks 25 of the 30 required genes: Gene0, Gene1"):
        gv.embed(model, tmp_path / "fewer.h5ad")


def test_files_with_genes_in_another_order_are_put_in_order(tmp_path) -> None:
    adata = cells()
    adata[:40].write_h5ad(tmp_path / "a.h5ad")
    adata[40:, ::-1].write_h5ad(tmp_path / "b.h5ad")
    source = open_source(tmp_path / "*.h5ad")
    assert source.genes == tuple(adata.var_names)
    assert (source.read(np.arange(N)) != adata.X).nnz == 0
    model = fit(adata, genes=list(adata.var_names))
    here, there = gv.embed(model, adata[:, ::-1].copy()), gv.embed(model, tmp_path / "*.h5ad")
    np.testing.assert_array_equal(here.obsm["X_genevae"], there.obsm["X_genevae"])


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.h5", "batch_0000.h5", "cells.csv", "cells.csv.gz"])
def test_an_empty_file_is_named(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        open_source(tmp_path / name)


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr", "cells"])
def test_files_without_cells_open_and_cannot_be_trained_on(tmp_path, name) -> None:
    convert(cells()[:0].copy(), tmp_path / name) if name != "cells" else _write_empty_batch(tmp_path / name)
    source = open_source(tmp_path / name)
    assert len(source) == 0
    assert source.read(np.empty(0, dtype=np.int64)).shape == (0, G)
    with pytest.raises(DataError, match="cells"):
        fit(tmp_path / name)


def _write_empty_batch(path: Path) -> None:
    from genevae.io.batch_h5 import write_batch

    path.mkdir()
    write_batch(path / "batch_0000.h5", cells().X[:0], list(cells().var_names), cells().obs[:0])


@pytest.mark.parametrize("what", ["text", "compound"])
def test_a_matrix_of_no_numbers_is_named(tmp_path, what) -> None:
    path = tmp_path / "cells.h5ad"
    adata = cells()
    adata.X = adata.X.toarray()
    adata.write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X"]
        kind = "S3" if what == "text" else np.dtype([("a", "f4"), ("b", "i2")])
        stored = file.create_dataset("X", (N, G), dtype=kind)
        stored.attrs["encoding-type"], stored.attrs["encoding-version"] = "array", "0.2.0"
    with pytest.raises(DataError, match=r"cells\.h5ad.*not a matrix of numbers"):
        open_source(path)
