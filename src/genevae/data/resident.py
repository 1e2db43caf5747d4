"""Cells on a device, where minibatches are gathered without the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Cells, Condition, ExpressionRows

__all__ = ["Resident"]


class Resident:
    """Cells on a device, by their rows in the source.

    Whole values up to 255, as most counts are, take one byte each; what is gathered is float32.

    Parameters
    ----------
    blocks
        The cells; all dense or all sparse.
    """

    def __init__(self, blocks: list[Cells]) -> None:
        self.values = torch.cat([cells.x.values for cells in blocks])
        self.condition = Condition.join([cells.condition for cells in blocks])
        self.n_genes = blocks[0].x.n_genes
        rows = np.concatenate([cells.row_n.cpu().numpy() for cells in blocks])
        self._place_n = np.full(rows.max() + 1, -1)
        self._place_n[rows] = np.arange(len(rows))
        self._host_start_n: NDArray[np.int64] | None = None
        if blocks[0].x.is_sparse:
            csr = [cells.x.csr() for cells in blocks]
            self.gene_e = torch.cat([gene_e for _, gene_e in csr])
            count_n = torch.cat([indptr_n.diff() for indptr_n, _ in csr])
            self.start_n = torch.cat([count_n.new_zeros(1), count_n.cumsum(0)])
            self._host_start_n = self.start_n.cpu().numpy()

    @classmethod
    def within(cls, blocks: Iterable[Cells], n_cells: int, device: torch.device, most: int) -> Resident | None:
        """Keep cells on a device, or return None where they need more bytes, while they are copied there too.

        Parameters
        ----------
        blocks
            The cells, in parts. No more are read as soon as it is known that all will not fit.
        n_cells
            How many they are.
        device
            Where they are kept.
        most
            Bytes that they may need.
        """
        kept: list[Cells] = []
        n_bytes = n_done = 0
        try:
            for block in blocks:
                cells = replace(block, x=_narrowed(block.x))
                n_bytes, n_done = n_bytes + _n_bytes(cells), n_done + cells.n_cells
                if 2 * n_bytes * n_cells / n_done > most:  # they are in parts and joined at the end
                    return None
                kept.append(cells.to(device))
            return cls(kept)
        except torch.OutOfMemoryError:
            return None

    def take(self, rows: NDArray[np.int64]) -> Cells:
        """Gather the cells of some rows."""
        place_n = self._place_n[rows]
        row_n, at_n = torch.from_numpy(np.stack([rows, place_n])).to(self.values.device)
        condition = self.condition.map(lambda tensor: tensor[at_n])
        if self._host_start_n is None:
            return Cells(ExpressionRows.from_dense(self.values[at_n].float()), condition, row_n)
        n_entries = int((self._host_start_n[place_n + 1] - self._host_start_n[place_n]).sum())
        first_n = self.start_n[at_n]
        count_n = self.start_n[at_n + 1] - first_n
        indptr_n = torch.cat([count_n.new_zeros(1), count_n.cumsum(0)])
        place_e = torch.repeat_interleave(first_n - indptr_n[:-1], count_n, output_size=n_entries)
        place_e += torch.arange(n_entries, device=place_e.device)
        x = ExpressionRows(self.values[place_e].float(), self.n_genes, indptr_n, self.gene_e[place_e])
        return Cells(x, condition, row_n)


def _narrowed(x: ExpressionRows) -> ExpressionRows:
    """Return the same rows with a byte for each value, where that holds them; bytes join float32 as float32."""
    values = x.values
    is_narrow = (values <= 255) & (values == values.round()) & ~values.signbit()
    return x.map(lambda each: each.to(torch.uint8)) if is_narrow.all() else x


def _n_bytes(cells: Cells) -> int:
    condition = cells.condition
    tensors: list[Tensor] = [cells.x.values, condition.size_n1, *condition.codes.values(), *condition.values.values()]
    if cells.x.is_sparse:
        tensors += cells.x.csr()
    return sum(tensor.nbytes for tensor in tensors)
