"""Products of CSR rows with a matrix, and of their transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from genevae.kernels.compile import compiled, inlined

__all__ = ["by_gene", "product"]

F = np.float32


@inlined
def _add_rows(values: Any, rows: Any, matrix: Any, out: Any) -> None:
    """Add up rows of a matrix, each times a number, four at a time, to read and write the sums less often."""
    n = len(rows)
    whole = n - n % 4
    for e in range(0, whole, 4):
        a, b, c, d = values[e], values[e + 1], values[e + 2], values[e + 3]
        w, x, y, z = matrix[rows[e]], matrix[rows[e + 1]], matrix[rows[e + 2]], matrix[rows[e + 3]]
        for h in range(len(out)):
            out[h] += (a * w[h] + b * x[h]) + (c * y[h] + d * z[h])
    for e in range(whole, n):
        a, w = values[e], matrix[rows[e]]
        for h in range(len(out)):
            out[h] += a * w[h]


@compiled
def product(
    _part: Any, start: Any, stop: Any, indptr_n: Any, gene_e: Any, value_e: Any, weight_gh: Any, out_nh: Any
) -> None:
    """Write some rows of x W."""
    for i in range(start, stop):
        out_nh[i, :] = F(0.0)
        at = slice(indptr_n[i], indptr_n[i + 1])
        _add_rows(value_e[at], gene_e[at], weight_gh, out_nh[i])


@compiled
def by_gene(indptr_n: Any, gene_e: Any, value_e: Any, indptr_g: Any, cell_e: Any, sorted_e: Any) -> None:
    """Write the same entries gene by gene: where each gene starts, and the cell and the value of each entry."""
    indptr_g[:] = 0
    for e in range(len(gene_e)):
        indptr_g[gene_e[e] + 1] += 1
    for g in range(1, len(indptr_g)):
        indptr_g[g] += indptr_g[g - 1]
    for i in range(len(indptr_n) - 1):
        for e in range(indptr_n[i], indptr_n[i + 1]):
            at = indptr_g[gene_e[e]]
            cell_e[at] = i
            sorted_e[at] = value_e[e]
            indptr_g[gene_e[e]] = at + 1
    for g in range(len(indptr_g) - 1, 0, -1):
        indptr_g[g] = indptr_g[g - 1]
    indptr_g[0] = 0
