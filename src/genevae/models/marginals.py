"""The distribution of each gene's values among some cells, as it was observed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Marginals"]

Values = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Marginals:
    """For every gene the values that occur among some cells, and how often.

    Parameters
    ----------
    gene_e
        The gene of each entry, ascending.
    value_e
        A value that occurs; ascending for each gene. Zero is an entry too.
    count_e
        In how many cells.
    n_genes
        The number of genes. A gene that no cell has measured has no entries.
    """

    gene_e: Values
    value_e: Values
    count_e: Values
    n_genes: int

    @classmethod
    def of(cls, x_ng: ArrayLike, measured_ng: ArrayLike | None = None) -> Self:
        """Count the values of cells, of the measured genes of each.

        Examples
        --------
        >>> Marginals.of([[0, 2], [0, 1], [3, 1]]).value_e.tolist()
        [0.0, 3.0, 1.0, 2.0]
        """
        x: Values = np.asarray(x_ng, dtype=np.float64)
        value_gn = np.where(True if measured_ng is None else np.asarray(measured_ng), x, np.inf).T.copy()
        value_gn.sort(axis=1)
        first_gn = np.isfinite(value_gn)
        first_gn[:, 1:] &= value_gn[:, 1:] != value_gn[:, :-1]
        gene_e, at_e = np.nonzero(first_gn)
        n_g = np.isfinite(value_gn).sum(1)
        last_e = np.append(gene_e[1:] != gene_e[:-1], True) if len(gene_e) else np.zeros(0, dtype=bool)
        end_e = np.where(last_e, n_g[gene_e], np.append(at_e[1:], 0)[: len(at_e)])
        return cls(gene_e.astype(np.int32), value_gn[first_gn], (end_e - at_e).astype(np.int32), x.shape[1])

    @cached_property
    def n_g(self) -> Values:
        """The number of cells that have measured each gene."""
        return np.bincount(self.gene_e, self.count_e, minlength=self.n_genes)

    @cached_property
    def up_to_e(self) -> Values:
        """The share of the cells that have this value of the gene or a lower one."""
        total_e = np.cumsum(self.count_e, dtype=np.float64)
        before_g = np.cumsum(self.n_g) - self.n_g
        return np.asarray((total_e - before_g[self.gene_e]) / self.n_g[self.gene_e])

    @cached_property
    def _key_e(self) -> Values:
        return self._key(self.gene_e, self.value_e)

    def _key(self, gene: Values, value: Values) -> Values:
        """Return numbers that are in the order of the genes, and for each gene in that of its values."""
        low, high = (self.value_e.min(), self.value_e.max()) if len(self.value_e) else (0.0, 0.0)
        width = high - low + 1
        return np.asarray(gene + 0.25 + np.clip((value - low) / (2 * width), -0.2, 0.7))

    def ranks(self, x_ng: ArrayLike, uniform_ng: ArrayLike) -> Values:
        """Return where values are among these cells, between 0 and 1: F(x−) + v (F(x) − F(x−)), with v uniform.

        F is the share of the cells with this value or a lower one, and one more cell that has the value itself. Of
        values from the same distribution the ranks are uniform.

        Parameters
        ----------
        x_ng
            The values.
        uniform_ng
            v, from 0 to 1.
        """
        key_ng = self._key(np.arange(self.n_genes), np.asarray(x_ng, dtype=np.float64))
        total_e = np.concatenate([[0.0], np.cumsum(self.count_e, dtype=np.float64)])
        before_g = np.cumsum(self.n_g) - self.n_g
        below_ng, up_to_ng = (
            total_e[np.searchsorted(self._key_e, key_ng, side)] - before_g for side in ("left", "right")
        )
        return np.asarray((below_ng + np.asarray(uniform_ng) * (up_to_ng - below_ng + 1)) / (self.n_g + 1))

    def quantiles(self, rank_ng: ArrayLike) -> Values:
        """Return the value at each rank: the lowest that at least this share of the cells has, or a lower one.

        Of a gene that no cell has measured, it is zero.
        """
        if not len(self.value_e):
            return np.zeros(np.shape(rank_ng))
        key_e = self.gene_e + self.up_to_e * (1 - 1e-9)
        rank: Values = np.asarray(rank_ng, dtype=np.float64).clip(0, 1)
        at_ng = np.searchsorted(key_e, np.arange(self.n_genes) + rank * (1 - 2e-9))
        return np.where(self.n_g > 0, self.value_e[at_ng.clip(max=len(self.value_e) - 1)], 0.0)
