"""All cells of a source on a device, where minibatches are gathered without the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Cells, Condition, ExpressionRows

__all__ = ["Resident"]


class Resident:
    """Cells on a device, by the number of their row.

    Whole values up to 255, as most counts are, take one byte each; what is gathered is float32.

    Parameters
    ----------
    blocks
        The cells, in the order of their rows; all dense or all sparse.
    """

    def __init__(self, blocks: Sequence[Cells]) -> None:
        narrow = all(_is_narrow(cells.x.values) for cells in blocks)
        values = [cells.x.values.to(torch.uint8) if narrow else cells.x.values for cells in blocks]
        self.values = torch.cat(values)
        self.condition = Condition.join([cells.condition for cells in blocks])
        self.n_genes = blocks[0].x.n_genes
        self._start_n: NDArray[np.int64] | None = None
        if blocks[0].x.is_sparse:
            csr = [cells.x.csr() for cells in blocks]
            self.gene_e = torch.cat([gene_e for _, gene_e in csr])
            count_n = torch.cat([indptr_n.diff() for indptr_n, _ in csr])
            self.start_n = torch.cat([count_n.new_zeros(1), count_n.cumsum(0)])
            self._start_n = self.start_n.cpu().numpy()

    def take(self, rows: NDArray[np.int64]) -> Cells:
        """Gather the cells of some rows."""
        row_n = torch.from_numpy(rows).to(self.values.device)
        condition = self.condition.map(lambda tensor: tensor[row_n])
        if self._start_n is None:
            return Cells(ExpressionRows.from_dense(self.values[row_n].float()), condition, row_n)
        n_entries = int((self._start_n[rows + 1] - self._start_n[rows]).sum())
        first_n = self.start_n[row_n]
        count_n = self.start_n[row_n + 1] - first_n
        indptr_n = torch.cat([count_n.new_zeros(1), count_n.cumsum(0)])
        place_e = torch.repeat_interleave(first_n - indptr_n[:-1], count_n, output_size=n_entries)
        place_e += torch.arange(n_entries, device=place_e.device)
        x = ExpressionRows(self.values[place_e].float(), self.n_genes, indptr_n, self.gene_e[place_e])
        return Cells(x, condition, row_n)


def _is_narrow(values: Tensor) -> bool:
    """Whether one byte holds each value."""
    return bool(((values >= 0) & (values <= 255) & (values == values.round())).all())
