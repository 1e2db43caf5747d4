"""How long an epoch of training reads data from disk, as they are and as a shuffled zarr store."""

from __future__ import annotations

import shlex
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.data.sampler import BLOCK
from genevae.errors import GenevaeError
from genevae.io.formats import open_source
from genevae.io.read_options import ReadOptions
from genevae.io.source import Block, MemorySource, Source
from genevae.io.write.anndata import write_store

__all__ = ["ReadingTime", "reading_time"]

N_BLOCKS = 24
"""Blocks of contiguous rows that are read for a measurement."""
APART = 16 * BLOCK
"""Rows from a block of the sample to the row that is read before, to open its file."""
LEAST_CELLS = 10 * N_BLOCKS * BLOCK
"""Cells of data whose reading is worth a measurement: far more than it reads."""
LEAST_RATIO, LEAST_SECONDS = 1.5, 20.0
"""What a conversion has to save: a third of the time, and so many seconds of each epoch."""


@dataclass(frozen=True)
class ReadingTime:
    """Seconds that one epoch reads, extrapolated from a sample.

    Parameters
    ----------
    name
        The path of the data.
    n_cells
        Their number of cells.
    now, converted
        Seconds of an epoch: as the data are, and as a store that ``genevae data convert`` writes.
    """

    name: str
    n_cells: int
    now: float
    converted: float

    @property
    def is_worth_it(self) -> bool:
        """Whether a conversion saves much of the time, and more than a few seconds."""
        return self.now > LEAST_RATIO * self.converted and self.now - self.converted > LEAST_SECONDS

    def __str__(self) -> str:
        path = Path(self.name)
        out = f"{path.name.split('.')[0].rstrip('*') or 'cells'}.zarr"
        command = shlex.join(["genevae", "data", "convert", str(path), "--out", out, "--shuffle"])
        return (
            f"an epoch reads {self.n_cells:,} cells in about {_short(self.now)}, and would in "
            f"{_short(self.converted)} from a zarr store, by a sample of {N_BLOCKS * BLOCK:,} cells. To convert: "
            f"{command}"
        )


def reading_time(source: Source, seed: int = 0) -> ReadingTime | None:
    """Measure how long an epoch reads, by reading a sample, writing it as a store, and reading that.

    Rows are read as in training: random blocks of contiguous rows. The sample takes a few megabytes in the folder of
    temporary files, and is removed.

    Parameters
    ----------
    source
        The data, with all their genes.
    seed
        Of the sample.

    Returns
    -------
    ReadingTime or None
        None for data in memory, for few cells, where some cells lack some of the genes, and where nothing can be
        measured, for example because the disk is full.
    """
    if isinstance(source, MemorySource) or len(source) < LEAST_CELLS or source.panels is not None:
        return None
    starts = np.random.default_rng(seed).choice(len(source) // BLOCK, N_BLOCKS, replace=False) * BLOCK
    rows = (np.sort(starts)[:, None] + np.arange(BLOCK)).ravel()
    with suppress(GenevaeError, OSError):
        return _measured(source, rows)
    return None


def _measured(source: Source, rows: NDArray[np.int64]) -> ReadingTime:
    elsewhere = (rows[::BLOCK] + APART) % len(source)
    source.read(np.unique(elsewhere))  # opens the files of the sample, whose blocks are not read before
    seconds, x_ng = _timed(source, rows)
    with tempfile.TemporaryDirectory(prefix="genevae-") as folder:
        path = Path(folder) / "sample.zarr"
        frames = pd.DataFrame(index=list(map(str, rows))), pd.DataFrame(index=list(source.genes))
        write_store(path, ({"X": x_ng[at : at + BLOCK]} for at in range(0, len(rows), BLOCK)), *frames)
        store = open_source(ReadOptions(path, keep="disk"))
        converted, _ = _timed(store, np.arange(len(rows)))
    per_cell = len(source) / len(rows)
    return ReadingTime(source.name, len(source), seconds * per_cell, converted * per_cell)


def _timed(source: Source, rows: NDArray[np.int64]) -> tuple[float, Block]:
    started = time.perf_counter()
    x_ng = source.read(rows)
    return time.perf_counter() - started, x_ng


def _short(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
