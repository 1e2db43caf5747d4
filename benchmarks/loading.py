"""Cells per second that loaders hand out of a store on disk: ours beside those of AnnData and of scDataset.

All read the same atlas, sorted by cell type, which is written first if it is not there; each hands out minibatches of
128 cells ready for training, as torch tensors, with the code of each cell's type. Ours and scDataset shuffle blocks of
64 rows through buffers of 16,384. Backed AnnData and AnnLoader fetch each minibatch by its random rows. The page cache
is warm: the files are read once before each round, so that no disk is measured. The rounds take turns; medians count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch
from atlas import write_atlas
from numpy.typing import NDArray

from genevae.data.loader import Loader
from genevae.data.sampler import BLOCK, BUFFER, Shuffled
from genevae.data.schema import Schema
from genevae.data.value_kind import probe
from genevae.io.formats import ReadOptions, open_source

BATCH_SIZE = 128
LABEL = "cell_type"
TARGET = 5.0
WITHIN = 0.02
"""Nats by which the mean entropy of a minibatch's labels may lie below that of a full shuffle."""

Minibatches = Iterator[NDArray[np.int64]]
"""What a loader is run as: the labels of each minibatch, when it is ready."""


def main() -> None:
    """Print cells per second of every loader, the entropy of its minibatches, and our ratio to the best other one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("build/atlas"))
    parser.add_argument("--cells", type=int, default=1_000_000, help="of the atlas, where it is to be written")
    parser.add_argument("--fast", type=int, default=32_768, help="cells that a loader with a buffer hands out a round")
    parser.add_argument("--slow", type=int, default=2_048, help="cells that a loader without one hands out a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--annbatch", action="store_true", help="beside annbatch alone, which needs Python 3.12 or newer"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    folders = {form: arguments.folder / form for form in ("h5ad", "zarr", "batch")}
    for form, folder in folders.items():
        write_atlas(folder, form, arguments.cells, cells_per_shard=min(50_000, arguments.cells // 20))
    shard = sorted(folders["h5ad"].glob("*.h5ad"))[7]
    packed = packed_copy(shard, arguments.folder / "gzip.h5ad")
    print(f"{os.cpu_count()} cores, minibatches of {BATCH_SIZE}; warm page cache")
    if arguments.annbatch:
        store = sorted(folders["zarr"].glob("*.zarr"))[7]
        compare("one zarr store", loaders_of_zarr(store), {"file": shard, "zarr": store}, arguments)
        return
    compare("the whole store", loaders_of_all(folders), folders, arguments)
    compare("one h5ad file", loaders_of_one(shard), {"file": shard}, arguments)
    compare("one h5ad file, gzip", loaders_of_one(packed), {"file": packed}, arguments)


Loaders = dict[str, tuple[Callable[[], Minibatches], bool]]
"""By name: what starts a loader, and whether it reads by buffers."""


def loaders_of_all(folders: dict[str, Path]) -> Loaders:
    """Name the loaders that read many files as one."""
    shards = sorted(folders["h5ad"].glob("*.h5ad"))
    ours: Loaders = {f"genevae {form}": (ours_of(folder), True) for form, folder in folders.items()}
    return {
        **ours,
        "scDataset h5ad, 0 workers": (partial(scdataset, shards, 0), True),
        "scDataset h5ad, 2 workers": (partial(scdataset, shards, 2), True),
        "AnnCollection h5ad, random rows": (partial(random_rows, shards), False),
        "AnnLoader h5ad": (partial(annloader, shards), False),
    }


def loaders_of_one(path: Path) -> Loaders:
    """Name the loaders that read one file."""
    return {
        "genevae": (ours_of(path), True),
        "scDataset, 0 workers": (partial(scdataset, [path], 0), True),
        "scDataset, 2 workers": (partial(scdataset, [path], 2), True),
        "backed AnnData, random rows": (partial(random_rows, [path]), False),
        "AnnLoader": (partial(annloader, [path]), False),
    }


def loaders_of_zarr(path: Path) -> Loaders:
    """Name the loaders that read a zarr store without AnnData."""
    return {"genevae zarr": (ours_of(path), True), "annbatch zarr": (partial(annbatch, path), True)}


def compare(title: str, loaders: Loaders, folders: dict[str, Path], arguments: argparse.Namespace) -> None:
    """Run loaders in turn, and print what each did."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    per_cpu: dict[str, list[float]] = {name: [] for name in loaders}
    labels: dict[str, list[NDArray[np.int64]]] = {name: [] for name in loaders}
    for _ in range(arguments.rounds):
        for name, (start, has_buffer) in loaders.items():
            warm(next((path for form, path in folders.items() if form in name.split()), next(iter(folders.values()))))
            rate, of_cpu, seen = measure(start, arguments.fast if has_buffer else arguments.slow)
            rates[name].append(rate)
            per_cpu[name].append(of_cpu)
            labels[name] += seen
    full = full_entropy(folders)
    median = {name: statistics.median(rate) for name, rate in rates.items()}
    best = max(rate for name, rate in median.items() if not name.startswith("genevae"))
    print(f"\n{title}; a full shuffle's minibatches have {full:.3f} nats of {LABEL}")
    for name, rate in median.items():
        entropy = statistics.fmean(map(entropy_of, labels[name]))
        n_cells = arguments.fast if loaders[name][1] else arguments.slow
        spread = f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}"
        ratio = f", {rate / best:.1f} times the best other (target: {TARGET:.0f})" if "genevae" in name else ""
        nats = f"{entropy:.3f} nats{'' if entropy > full - WITHIN else ' (too few)'}"
        of_cpu = f"{statistics.median(per_cpu[name]):,.0f} per second of CPU"
        print(f"{name:<34}{rate:>9,.0f} cells/s ({spread}; {n_cells:,} cells), {of_cpu}, {nats}{ratio}", flush=True)


def measure(start: Callable[[], Minibatches], n_cells: int) -> tuple[float, float, list[NDArray[np.int64]]]:
    """Return the cells per second from the start of an epoch on, those per second of CPU, and each minibatch's labels.

    The CPU's time, of workers too, says more where others use the machine.
    """
    n = n_cells // BATCH_SIZE
    minibatches = start()
    started, busy = time.perf_counter(), sum(os.times()[:4])
    seen = list(islice(minibatches, n))
    seconds = time.perf_counter() - started
    minibatches.close()  # type: ignore[attr-defined]
    n_seen = sum(map(len, seen))
    return n_seen / seconds, n_seen / max(sum(os.times()[:4]) - busy, 1e-2), seen


def ours_of(path: Path) -> Callable[[], Minibatches]:
    """Open a store once; every call starts another epoch."""
    source = open_source(ReadOptions(path=path, keep="disk"))
    schema = Schema.fit(source.genes, source.obs, probe(source), condition=[LABEL])
    loader = Loader(source, schema, Shuffled(np.arange(len(source)), BATCH_SIZE))
    epochs = iter(range(1_000))

    def start() -> Minibatches:
        for cells in loader.epoch(next(epochs)):
            yield cells.condition.codes[LABEL].numpy()

    return start


def backed(paths: list[Path]) -> tuple[Any, NDArray[np.int64]]:
    """Open files as AnnData users do: backed, and as a collection where there are many."""
    opened = [anndata.read_h5ad(path, backed="r") for path in paths]
    collection = opened[0] if len(opened) == 1 else anndata.experimental.AnnCollection(opened)
    return collection, np.concatenate([adata.obs[LABEL].str[-2:].astype(int) for adata in opened])


def rows_of(collection: Any, rows: NDArray[np.int64]) -> Any:
    """Read the matrix of some rows into memory."""
    x = collection[rows].X
    return x[:] if hasattr(x, "to_memory") else x


def as_torch(x: Any) -> torch.Tensor:
    """Make CSR rows a torch CSR tensor."""
    return torch.sparse_csr_tensor(*map(torch.from_numpy, (x.indptr, x.indices, x.data)), x.shape)


def scdataset(paths: list[Path], n_workers: int) -> Minibatches:
    """Run scDataset with our block and buffer; sorted reads, its own shuffling, as its documentation advises."""
    from scdataset import BlockShuffling, scDataset
    from torch.utils.data import DataLoader

    collection, label_n = backed(paths)
    fetch_factor = BUFFER // BATCH_SIZE
    dataset = scDataset(
        collection,
        BlockShuffling(block_size=BLOCK),
        batch_size=BATCH_SIZE,
        fetch_factor=fetch_factor,
        fetch_callback=lambda opened, rows: (rows_of(opened, rows), label_n[rows]),
        batch_callback=lambda read, rows: (as_torch(read[0][rows]), torch.from_numpy(read[1][rows])),
    )
    ahead = {"num_workers": n_workers, "prefetch_factor": fetch_factor + 1} if n_workers else {}
    for _, label in DataLoader(dataset, batch_size=None, **ahead):
        yield label.numpy()


def annbatch(path: Path) -> Minibatches:
    """Run annbatch with our block and buffer, and with zarrs, as its documentation advises."""
    import annbatch as package
    import zarr
    from anndata.io import read_elem, sparse_dataset

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        store = zarr.open_group(path, mode="r")
        opened = anndata.AnnData(X=sparse_dataset(store["X"]), obs=read_elem(store["obs"])[[LABEL]])
        loader = package.Loader(
            batch_size=BATCH_SIZE, chunk_size=BLOCK, preload_nchunks=BUFFER // BLOCK, shuffle=True, to="torch"
        )
        for cells in loader.add_adata(opened):
            yield cells["obs"][LABEL].astype(str).str[-2:].astype(int).to_numpy()


def random_rows(paths: list[Path]) -> Minibatches:
    """Index a backed AnnData, or a collection of them, by the random rows of each minibatch."""
    collection, label_n = backed(paths)
    order = np.random.default_rng().permutation(len(label_n))
    for start in range(0, len(order), BATCH_SIZE):
        rows = np.sort(order[start : start + BATCH_SIZE])
        as_torch(rows_of(collection, rows))
        yield label_n[rows]


def annloader(paths: list[Path]) -> Minibatches:
    """Run anndata's own loader; it hands out dense tensors."""
    from anndata.experimental import AnnLoader

    opened = [anndata.read_h5ad(path, backed="r") for path in paths]
    convert = {"obs": {LABEL: lambda names: np.array([int(name[-2:]) for name in names])}}
    for cells in AnnLoader(opened, batch_size=BATCH_SIZE, shuffle=True, convert=convert):
        yield np.asarray(cells.obs[LABEL])


def entropy_of(labels: NDArray[np.int64]) -> float:
    """Return the entropy of the labels of a minibatch, in nats."""
    share = np.bincount(labels) / len(labels)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def full_entropy(folders: dict[str, Path], n: int = 2_000) -> float:
    """Return the mean entropy of minibatches of a full shuffle."""
    path = next(iter(folders.values()))
    paths = sorted(path.glob("*.h5ad")) if path.is_dir() else [path]
    _, label_n = backed(paths)
    rng = np.random.default_rng(0)
    return statistics.fmean(entropy_of(rng.choice(label_n, BATCH_SIZE, replace=False)) for _ in range(n))


def warm(path: Path) -> None:
    """Read files once, so that they are in the page cache."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb", buffering=0) as opened:
                while opened.read(2**24):
                    pass


def packed_copy(path: Path, place: Path) -> Path:
    """Write a file again with gzip, as most public atlases are."""
    if not place.exists():
        anndata.read_h5ad(path).write_h5ad(place, compression="gzip")
    return place


if __name__ == "__main__":
    main()
