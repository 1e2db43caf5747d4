"""Products of CSR rows with a matrix, and of their transpose; and of rows with one of several matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from genevae.kernels.compile import PARTS, compiled, inlined
from genevae.kernels.threads import in_parts, matrix, next_part, vector

__all__ = ["by_gene", "category_product", "category_product_gradient", "product", "stored"]

F = np.float32


@inlined
def _add_rows(values: Any, rows: Any, weights: Any, out: Any) -> None:
    """Add up rows of a matrix, each times a number, four at a time, to read and write the sums less often."""
    n = len(rows)
    whole = n - n % 4
    for e in range(0, whole, 4):
        a, b, c, d = values[e], values[e + 1], values[e + 2], values[e + 3]
        w, x, y, z = weights[rows[e]], weights[rows[e + 1]], weights[rows[e + 2]], weights[rows[e + 3]]
        for h in range(len(out)):
            out[h] += (a * w[h] + b * x[h]) + (c * y[h] + d * z[h])
    for e in range(whole, n):
        a, w = values[e], weights[rows[e]]
        for h in range(len(out)):
            out[h] += a * w[h]


@in_parts(np.int64, np.int32, F, F, F)
def product(at: Any) -> None:
    """Write x W, for the ``indptr_n``, ``gene_e`` and ``value_e`` of x, ``weight_gh`` and ``out_nh``."""
    indptr_n, gene_e, value_e = vector(at, 0, np.int64), vector(at, 1, np.int32), vector(at, 2, F)
    weight_gh, out_nh = matrix(at, 3), matrix(at, 4)
    n = len(out_nh)
    part = next_part(at)
    while part < PARTS:
        for i in range(part * n // PARTS, (part + 1) * n // PARTS):
            out_nh[i, :] = F(0.0)
            stored = slice(indptr_n[i], indptr_n[i + 1])
            _add_rows(value_e[stored], gene_e[stored], weight_gh, out_nh[i])
        part = next_part(at)


@compiled
def stored(x_ng: Any, indptr_n: Any, gene_e: Any, value_e: Any) -> Any:
    """Write the entries of dense rows that are not zero, and return how many they are."""
    n = 0
    for i in range(len(x_ng)):
        indptr_n[i] = n
        for j in range(x_ng.shape[1]):
            gene_e[n], value_e[n] = j, x_ng[i, j]  # without a branch; the next takes the place of a zero
            n += x_ng[i, j] != 0
    indptr_n[len(x_ng)] = n
    return n


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


@compiled
def category_product(h_nh: Any, weight_chk: Any, code_n: Any, out_nk: Any) -> None:
    """Write h W with the W of each cell's category; zeros, where a code has none."""
    rows_h = np.arange(h_nh.shape[1])
    for i in range(len(h_nh)):
        out_nk[i, :] = F(0.0)
        if code_n[i] < len(weight_chk):
            _add_rows(h_nh[i], rows_h, weight_chk[code_n[i]], out_nk[i])


@compiled
def category_product_gradient(
    h_nh: Any, weight_chk: Any, code_n: Any, gradient_nk: Any, dh_nh: Any, dweight_chk: Any
) -> None:
    """Write the gradients of h and W."""
    dweight_chk[:] = F(0.0)
    dh_nh[:] = F(0.0)
    for i in range(len(h_nh)):
        if code_n[i] < len(weight_chk):
            weight_hk, dweight_hk, gradient_k = weight_chk[code_n[i]], dweight_chk[code_n[i]], gradient_nk[i]
            for a in range(h_nh.shape[1]):
                h, total, weight_k, dweight_k = h_nh[i, a], F(0.0), weight_hk[a], dweight_hk[a]
                for b in range(len(gradient_k)):
                    total += weight_k[b] * gradient_k[b]
                    dweight_k[b] += h * gradient_k[b]
                dh_nh[i, a] = total
