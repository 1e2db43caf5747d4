"""Source + sampler + schema → minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genevae.cells import Cells, Condition, Rows
from genevae.data.sampler import Sampler
from genevae.data.schema import Schema
from genevae.data.sources.source import Source
from genevae.errors import DataError, shorten

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

__all__ = ["Loader", "to_rows"]


class Loader:
    """Iterate over minibatches.

    Covariates are encoded once, and expression is read a chunk of minibatches at a time, so that a minibatch costs a
    few slices.

    Parameters
    ----------
    source
        Where expression is read; its genes are the schema's, in the schema's order.
    schema
        What the model knows of the data.
    sampler
        Which rows, in which order.
    fill
        Categorical fields that the source's table may lack; see :meth:`Schema.encode`.
    """

    def __init__(self, source: Source, schema: Schema, sampler: Sampler, fill: Sequence[str] = ()) -> None:
        self.source = source
        self.schema = schema
        self.sampler = sampler
        self._covariates = schema.encode(source.obs, fill)

    def __len__(self) -> int:
        return self.sampler.n_minibatches

    def codes(self, name: str) -> Tensor:
        """Return the code of a categorical field in every cell that the sampler may draw."""
        rows = np.concatenate([chunk.rows for chunk in self.sampler.chunks(0)] or [np.empty(0, dtype=np.int64)])
        return self._covariates.codes[name][torch.from_numpy(rows)]

    def epoch(self, number: int) -> Iterator[Cells]:
        """Yield the minibatches of one epoch."""
        for chunk in self.sampler.chunks(number):
            cells = self._read(chunk.rows)
            for start, stop in zip(chunk.bounds, chunk.bounds[1:], strict=False):
                yield cells[start:stop]

    def __iter__(self) -> Iterator[Cells]:
        """Yield the minibatches of the first epoch."""
        return self.epoch(0)

    def _read(self, rows: NDArray[np.int64]) -> Cells:
        block = self.source.read(rows)
        x = to_rows(block)
        if not torch.isfinite(x.values).all():
            raise DataError(self._name_not_finite(x, rows))
        size_n1 = torch.from_numpy(np.asarray(block.sum(1), dtype=np.float32).reshape(-1, 1))
        row_n = torch.from_numpy(rows)
        condition: Condition = self._covariates.map(lambda tensor: tensor[row_n]).with_size(size_n1.clamp(min=1e-6))
        return Cells(self.schema.transform.apply(x, size_n1), condition, row_n)

    def _name_not_finite(self, x: Rows, rows: NDArray[np.int64]) -> str:
        cells, genes = (~torch.isfinite(x.dense())).nonzero(as_tuple=True)
        cell_names = dict.fromkeys(str(self.source.obs.index[rows[cell]]) for cell in cells.tolist())
        gene_names = dict.fromkeys(self.schema.genes[gene] for gene in genes.tolist())
        return (
            f"{self.source.name} has values that are missing or infinite. Cells: {shorten(cell_names)}. "
            f"Genes: {shorten(gene_names)}. Leave them out, or put numbers there."
        )


def to_rows(x: csr_matrix | NDArray[np.float32]) -> Rows:
    """Wrap what a source has read, without copying the entries."""
    if isinstance(x, np.ndarray):
        return Rows.from_dense(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)))
    return Rows(
        torch.from_numpy(np.asarray(x.data, dtype=np.float32)),
        int(x.shape[1]),
        torch.from_numpy(x.indptr.astype(np.int64)),
        torch.from_numpy(x.indices.astype(np.int64)),
    )
