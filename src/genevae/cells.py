"""The records that every layer shares, and the legend of the axes.

An array's name ends with its axes, in this order:

====  =======================
``s``  Monte-Carlo particles
``n``  cells (or bulk samples)
``g``  genes
``k``  latent dimensions
``h``  hidden units
``c``  categories of a covariate
``b``  technical batches
``e``  stored (non-zero) entries of sparse rows
``1``  an axis kept for broadcasting
====  =======================

So ``x_ng`` is cells × genes, ``z_snk`` particles × cells × latent, ``size_n1`` one number per cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Cells", "Condition", "ExpressionRows", "Shard"]


@dataclass(frozen=True)
class Shard:
    """The cells of a minibatch that this process has, where several processes train together.

    Parameters
    ----------
    rank
        The number of this process.
    sizes
        Cells of each process, at least one; the cells of a process follow those of the process before it.
    """

    rank: int
    sizes: tuple[int, ...]

    @property
    def n_total(self) -> int:
        """Cells of all processes."""
        return sum(self.sizes)

    @property
    def rows(self) -> slice:
        """The rows of this process in the minibatch of all processes."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])

    @property
    def share(self) -> float:
        """Cells of this process over those of all."""
        return self.sizes[self.rank] / self.n_total


def _to(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """Copy to a device; a copy from pinned memory to a GPU does not keep the CPU waiting."""
    return tensor.to(device, dtype, non_blocking=torch.device(device).type == "cuda")


@dataclass(frozen=True)
class ExpressionRows:
    """Rows of an expression matrix, dense or CSR.

    Parameters
    ----------
    values
        ``x_ng`` when dense; the stored entries ``x_e``, row by row, when sparse.
    n_genes
        Number of columns.
    indptr_n
        Sparse only: the start of each row in ``values``, and the end of the last (n + 1 integers, int64 from a source).
    gene_e
        Sparse only: the column of each stored entry (int32 from a source). A column occurs at most once per row.
    """

    values: Tensor
    n_genes: int
    indptr_n: Tensor | None = None
    gene_e: Tensor | None = None

    @classmethod
    def from_dense(cls, x_ng: Tensor) -> ExpressionRows:
        """Wrap a dense matrix, without copying it."""
        return cls(x_ng, x_ng.shape[-1])

    @property
    def is_sparse(self) -> bool:
        """Whether only some entries are stored, and all others are zero."""
        return self.indptr_n is not None

    @property
    def n_cells(self) -> int:
        """Number of rows."""
        return len(self.values) if self.indptr_n is None else len(self.indptr_n) - 1

    @cached_property
    def cell_e(self) -> Tensor:
        """Return the row of each stored entry."""
        indptr_n, _ = self.csr()
        return torch.repeat_interleave(
            torch.arange(self.n_cells, device=self.values.device), indptr_n.diff(), output_size=len(self.values)
        )

    @cached_property
    def flat_e(self) -> Tensor:
        """Return the index of each stored entry in the flattened dense matrix."""
        _, gene_e = self.csr()
        return self.cell_e * self.n_genes + gene_e

    def dense(self, values: Tensor | None = None) -> Tensor:
        """Return ``x_ng``, or a matrix with other values instead of the entries."""
        values = self.values if values is None else values
        if self.indptr_n is None:
            return values
        x = values.new_zeros(self.n_cells * self.n_genes)
        return x.scatter_(0, self.flat_e, values).view(self.n_cells, self.n_genes)

    def sum_n(self, values: Tensor | None = None) -> Tensor:
        """Sum over genes.

        Parameters
        ----------
        values
            Values to sum, shaped like ``values`` with any leading axes; the entries by default.
        """
        values = self.values if values is None else values
        if self.indptr_n is None:
            return values.sum(-1)
        flat = values.reshape(values.shape[:-1].numel(), values.shape[-1])
        offsets = self.indptr_n.expand(len(flat), -1).contiguous()
        return torch.segment_reduce(flat, "sum", offsets=offsets, axis=1).view(*values.shape[:-1], self.n_cells)

    def map(self, function: Callable[[Tensor], Tensor]) -> ExpressionRows:
        """Apply a function to every entry. For sparse rows it must map zero to zero."""
        return replace(self, values=function(self.values))

    def repeat(self, times: int) -> ExpressionRows:
        """Concatenate ``times`` copies of these rows."""
        if self.indptr_n is None:
            return ExpressionRows.from_dense(self.values.repeat(times, 1))
        indptr_n, gene_e = self.csr()
        starts = torch.arange(times, device=indptr_n.device)[:, None] * len(self.values)
        indptr = torch.cat([(starts + indptr_n[:-1]).flatten(), indptr_n.new_full((1,), times * len(self.values))])
        return ExpressionRows(self.values.repeat(times), self.n_genes, indptr, gene_e.repeat(times))

    def __getitem__(self, rows: slice) -> ExpressionRows:
        """Take contiguous rows, without copying their entries."""
        start, stop, step = rows.indices(self.n_cells)
        if step != 1:
            raise ValueError(f"rows must be contiguous, not in steps of {step}")
        if self.indptr_n is None:
            return ExpressionRows.from_dense(self.values[rows])
        _, gene_e = self.csr()
        stop = max(start, stop)
        first, last = int(self.indptr_n[start]), int(self.indptr_n[stop])
        return ExpressionRows(
            self.values[first:last], self.n_genes, self.indptr_n[start : stop + 1] - first, gene_e[first:last]
        )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> ExpressionRows:
        """Move to a device, and optionally convert to another floating type."""
        values = _to(self.values, device, dtype)
        if self.indptr_n is None:
            return ExpressionRows.from_dense(values)
        indptr_n, gene_e = self.csr()
        return ExpressionRows(values, self.n_genes, _to(indptr_n, device), _to(gene_e, device))

    def pin_memory(self) -> ExpressionRows:
        """Copy to pinned memory."""
        if self.indptr_n is None:
            return ExpressionRows.from_dense(self.values.pin_memory())
        indptr_n, gene_e = self.csr()
        return ExpressionRows(self.values.pin_memory(), self.n_genes, indptr_n.pin_memory(), gene_e.pin_memory())

    def csr(self) -> tuple[Tensor, Tensor]:
        """Return ``indptr_n`` and ``gene_e`` of sparse rows."""
        if self.indptr_n is None or self.gene_e is None:
            raise TypeError("these rows are dense, so they have no stored entries")
        return self.indptr_n, self.gene_e


@dataclass(frozen=True)
class Condition:
    """All inputs of a model besides expression.

    Parameters
    ----------
    size_n1
        Counts per cell over the measured genes, or a size factor on the count scale.
    codes
        For every categorical field, the code ``n`` of each cell's category (int64).
    values
        For every continuous field, its value ``n`` in each cell, standardised by the schema.
    measured_ng
        Which genes were measured in each cell (bool); None if all were measured in all cells. Entries that were not
        measured are stored as zero, and are ignored.
    shard
        Which cells of the minibatch these are, where several processes train together; None where they are all.
    """

    size_n1: Tensor
    codes: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Tensor] = field(default_factory=dict)
    measured_ng: Tensor | None = None
    shard: Shard | None = None

    @classmethod
    def join(cls, conditions: Sequence[Condition]) -> Condition:
        """Concatenate conditions with the same fields."""
        first = conditions[0]
        measured = [c.measured_ng for c in conditions if c.measured_ng is not None]
        return cls(
            torch.cat([c.size_n1 for c in conditions]),
            {name: torch.cat([c.codes[name] for c in conditions]) for name in first.codes},
            {name: torch.cat([c.values[name] for c in conditions]) for name in first.values},
            torch.cat(measured) if measured else None,
        )

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.size_n1)

    def map(self, function: Callable[[Tensor], Tensor]) -> Condition:
        """Apply one function to every tensor."""
        return Condition(
            size_n1=function(self.size_n1),
            codes={name: function(codes) for name, codes in self.codes.items()},
            values={name: function(values) for name, values in self.values.items()},
            measured_ng=None if self.measured_ng is None else function(self.measured_ng),
            shard=self.shard,
        )

    def replace(
        self, codes: Mapping[str, Tensor] | None = None, values: Mapping[str, Tensor] | None = None
    ) -> Condition:
        """Return the condition with other codes or values for some fields."""
        return replace(self, codes={**self.codes, **(codes or {})}, values={**self.values, **(values or {})})

    def with_size(self, size_n1: Tensor) -> Condition:
        """Return the condition with another size."""
        return replace(self, size_n1=size_n1)

    def with_measured(self, measured_ng: Tensor | None) -> Condition:
        """Return the condition with this mask of measured genes."""
        return replace(self, measured_ng=measured_ng)


@dataclass(frozen=True)
class Cells:
    """A minibatch: the record that data pass to models.

    Parameters
    ----------
    x
        Expression as input of the model: ``n`` rows of ``g`` genes.
    condition
        All other inputs.
    row_n
        The row of each cell in its source (int64).
    """

    x: ExpressionRows
    condition: Condition
    row_n: Tensor

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.x.n_cells

    @property
    def shard(self) -> Shard | None:
        """Which cells of the minibatch these are, where several processes train together."""
        return self.condition.shard

    @property
    def n_total(self) -> int:
        """Number of cells of the minibatch, those of other processes included."""
        return self.n_cells if self.shard is None else self.shard.n_total

    def with_shard(self, shard: Shard | None) -> Cells:
        """Return the same cells as a shard of a minibatch."""
        return replace(self, condition=replace(self.condition, shard=shard))

    def to(self, device: torch.device | str) -> Cells:
        """Move every tensor to a device."""
        return Cells(self.x.to(device), self.condition.map(lambda t: _to(t, device)), _to(self.row_n, device))

    def pin_memory(self) -> Cells:
        """Copy every tensor to pinned memory, from which a GPU copies while it computes."""
        return Cells(self.x.pin_memory(), self.condition.map(lambda t: t.pin_memory()), self.row_n.pin_memory())

    def __getitem__(self, rows: slice) -> Cells:
        """Take contiguous cells, without copying their entries; the result is a minibatch of its own."""
        return Cells(self.x[rows], self.condition.map(lambda t: t[rows]), self.row_n[rows]).with_shard(None)

    def repeat(self, times: int) -> Cells:
        """Concatenate ``times`` copies of these cells."""
        return Cells(
            self.x.repeat(times),
            self.condition.map(lambda t: t.repeat(times, *[1] * (t.ndim - 1))),
            self.row_n.repeat(times),
        )

    def given(self, condition: Condition) -> Cells:
        """Return the cells with another condition."""
        return replace(self, condition=condition)
