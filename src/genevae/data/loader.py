"""Minibatches from a source, a sampler and a schema."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from genevae.cells import Cells, Condition, ExpressionRows
from genevae.data.prefetch import mapped, prefetched
from genevae.data.resident import Resident
from genevae.data.sampler import BUFFER, Chunk, Sampler
from genevae.data.schema import Schema
from genevae.errors import DataError, shorten
from genevae.io.source import MemorySource, Source, csr_or_dense, is_sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

__all__ = ["Loader", "to_rows"]


AHEAD = 2**12
"""Cells that are prefetched if expression is read from disk: more would not stay in the processor's cache."""
BLOCK_SIZE = 32
"""Minibatches whose rows are gathered together if expression is in memory."""
FEW = 2**10
"""Cells that are gathered together from a buffer, so that they stay in the processor's cache."""


class Loader:
    """Iterate over minibatches.

    Covariates are encoded once. From memory, the rows of several minibatches are gathered together. From disk, a buffer
    is read in the order of its rows in a background thread, and split into its minibatches. Both give the same
    minibatches. They are CSR if most values are zero, in whatever format the source stores them.

    Parameters
    ----------
    source
        Source of expression, with the genes of the schema, in the same order.
    schema
        Genes, covariates and transform.
    sampler
        The rows to read, and their order.
    fill
        Categorical fields that the source's table may lack; see :meth:`Schema.encode`.
    """

    def __init__(self, source: Source, schema: Schema, sampler: Sampler, fill: Sequence[str] = ()) -> None:
        self.source = source
        self.schema = schema
        self.sampler = sampler
        self._covariates = schema.encode(source.obs, fill)
        self._as_csr = is_sparse(source)
        self._pins, self._n_threads = False, 1
        self._resident: Resident | None = None

    def __len__(self) -> int:
        return self.sampler.n_minibatches

    def over(self, sampler: Sampler) -> Loader:
        """Return a loader of the same data with another sampler, without encoding the covariates again."""
        other = copy(self)
        other.sampler = sampler
        return other

    def on(self, device: torch.device | str, n_threads: int = 1) -> Loader:
        """Return a loader of the same minibatches for a device, which reads from disk in so many threads.

        For a GPU, minibatches are in pinned memory and are prefetched from memory too, so that gathering and copying
        them do not keep it waiting.
        """
        other = copy(self)
        other._pins = torch.device(device).type == "cuda" and torch.cuda.is_available()
        other._n_threads = n_threads
        return other

    def resident(self, device: torch.device, most: int, also: Sampler | None = None) -> Loader:
        """Return a loader of the same minibatches whose cells are on a device, where they are gathered.

        Parameters
        ----------
        device
            Where the cells are kept.
        most
            Bytes that they may need there. Where they need more, and for expression that is read from disk or has other
            genes measured in each cell, this loader is returned.
        also
            A sampler whose cells are kept too, for :meth:`over`.
        """
        rows = np.unique(np.concatenate([self.sampler.rows, also.rows]) if also else self.sampler.rows)
        if not isinstance(self.source, MemorySource) or self.source.panels is not None or not len(rows):
            return self
        ranges = (rows[start : start + BUFFER] for start in range(0, len(rows), BUFFER))
        blocks = (self._cells(self.source.read(some), some) for some in ranges)
        other = copy(self)
        other._resident = Resident.within(blocks, len(rows), device, most)
        return other if other._resident else self

    def codes(self, name: str) -> Tensor:
        """Return the code of a categorical field for every cell of the sampler."""
        return self._covariates.codes[name][torch.from_numpy(self.sampler.rows)]

    def sizes(self, number: int, first: int = 0) -> list[int]:
        """Return the number of cells of each minibatch that :meth:`epoch` yields, without reading any."""
        chunks = self.sampler.chunks(number, first)
        return [stop - start for chunk in chunks for start, stop in pairwise(chunk.bounds)]

    def epoch(self, number: int, first: int = 0) -> Generator[Cells, None, None]:
        """Yield the minibatches of one epoch, from the ``first`` on."""
        if self._resident is not None:
            for chunk in self.sampler.chunks(number, first):
                yield from (self._resident.take(chunk.rows[start:stop]) for start, stop in pairwise(chunk.bounds))
            return
        in_memory = isinstance(self.source, MemorySource)
        minibatches = self._gather(number, first) if in_memory else self._read(number, first)
        if self._pins:
            minibatches = (cells.pin_memory() for cells in minibatches)
        if in_memory and not self._pins:
            yield from minibatches
        else:
            batch_size = max(1, self.sampler.n_cells // max(1, len(self)))
            yield from prefetched(minibatches, max(2, AHEAD // batch_size))

    def __iter__(self) -> Iterator[Cells]:
        """Yield the minibatches of the first epoch."""
        return self.epoch(0)

    def _gather(self, epoch: int, first: int) -> Iterator[Cells]:
        """Gather the rows of several minibatches from memory."""
        for chunk in self.sampler.chunks(epoch, first):
            yield from self._split(chunk, self.source.read, chunk.rows, BLOCK_SIZE)

    def _read(self, epoch: int, first: int) -> Iterator[Cells]:
        """Read the rows of a buffer in their order on disk, and split them into minibatches."""
        chunks = self.sampler.chunks(epoch, first)
        blocks = map(self._block, chunks) if self._n_threads == 1 else mapped(self._block, chunks, self._n_threads)
        for chunk, index, block in blocks:
            n_minibatches = max(1, FEW * (len(chunk.bounds) - 1) // len(chunk.rows))
            yield from self._split(chunk, partial(_taken, block), index, n_minibatches)
            del block  # before the next is read, because a buffer is large

    def _split(
        self, chunk: Chunk, take: Callable[[NDArray[np.int64]], Any], at_n: NDArray[np.int64], n_minibatches: int
    ) -> Iterator[Cells]:
        """Yield the minibatches of a chunk, so many of which are taken together, from where each of their rows is."""
        for number in range(0, len(chunk.bounds) - 1, n_minibatches):
            bounds = chunk.bounds[number : number + n_minibatches + 1]
            rows = slice(bounds[0], bounds[-1])
            cells = self._cells(take(at_n[rows]), chunk.rows[rows])
            for start, stop in pairwise(bounds):
                yield cells[start - bounds[0] : stop - bounds[0]]

    def _block(self, chunk: Chunk) -> tuple[Chunk, NDArray[np.int64], csr_matrix | NDArray[np.float32]]:
        """Read the rows of a buffer, each once, and return the row of the block for each row of the buffer."""
        ordered, index = np.unique(chunk.rows, return_inverse=True)
        return chunk, index, self.source.read(ordered)

    def _cells(self, block: csr_matrix | NDArray[np.float32], rows: NDArray[np.int64]) -> Cells:
        x = to_rows(csr_or_dense(block, self._as_csr))
        size_n1 = torch.from_numpy(np.asarray(block.sum(1), dtype=np.float32).reshape(-1, 1))
        if not torch.isfinite(size_n1).all() and not torch.isfinite(x.values).all():
            raise DataError(self._not_finite_message(x, rows))
        row_n = torch.from_numpy(rows)
        condition: Condition = self._covariates.map(lambda tensor: tensor[row_n]).with_size(size_n1.clamp(min=1e-6))
        x = self.schema.transform.apply(x, size_n1)
        if (panels := self.source.panels) is not None:
            measured_ng = torch.from_numpy(panels.measured_pg[panels.panel_n[rows]])
            condition = condition.with_measured(measured_ng)
            x = x if x.is_sparse else x.map(lambda values: values.masked_fill(~measured_ng, 0))
        return Cells(x, condition, row_n)

    def _not_finite_message(self, x: ExpressionRows, rows: NDArray[np.int64]) -> str:
        cells, genes = (~torch.isfinite(x.dense())).nonzero(as_tuple=True)
        cell_names = dict.fromkeys(str(self.source.obs.index[rows[cell]]) for cell in cells.tolist())
        gene_names = dict.fromkeys(self.schema.genes[gene] for gene in genes.tolist())
        return (
            f"{self.source.name} has values that are missing or infinite. Cells: {shorten(cell_names)}. "
            f"Genes: {shorten(gene_names)}. Leave them out, or replace them with numbers."
        )


def _taken(block: csr_matrix | NDArray[np.float32], rows: NDArray[np.int64]) -> csr_matrix | NDArray[np.float32]:
    """Return rows of a buffer, without copying them if they are next to each other."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    if isinstance(block, np.ndarray) or last - first != len(rows) or (np.diff(rows) != 1).any():
        return block[rows]
    at = slice(*block.indptr[[first, last]])
    indptr = block.indptr[first : last + 1] - block.indptr[first]
    return sparse.csr_matrix((block.data[at], block.indices[at], indptr), shape=(len(rows), block.shape[1]), copy=False)


def to_rows(x: csr_matrix | NDArray[np.float32]) -> ExpressionRows:
    """Convert rows of a source, without copying the entries."""
    if isinstance(x, np.ndarray):
        return ExpressionRows.from_dense(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)))
    return ExpressionRows(
        torch.from_numpy(np.asarray(x.data, dtype=np.float32)),
        int(x.shape[1]),
        torch.from_numpy(x.indptr.astype(np.int64)),
        torch.from_numpy(x.indices.astype(np.int32, copy=False)),
    )
