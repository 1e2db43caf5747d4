"""Identifying cells by their expression, whatever their names are and in whatever order genes stand."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genevae.io.source import Source

__all__ = ["contents_of", "hashes_in", "hashes_of", "sampled_rows"]

_AT_ONCE = 2_000
_MAX_CELLS = 200_000


def contents_of(source: Source, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the hashes of :func:`hashes_of` as text; empty for a cell without expression."""
    return np.array([f"{each:016x}" if each else "" for each in hashes_of(source, rows).tolist()], dtype=object)


def hashes_in(contents: pd.Series[str]) -> NDArray[np.uint64]:
    """Return the hashes that texts of :func:`contents_of` stand for."""
    return np.fromiter((int(each or "0", 16) for each in contents), np.uint64, len(contents))


def hashes_of(source: Source, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a hash of the expression of some cells; 0 for a cell without expression.

    With w a 64-bit number from the name of each gene, and bits(x) those of x as float32:
    hash_n = Σ_g w_g · bits(x_ng) mod 2⁶⁴. Zeros add nothing, and the order of genes does not matter.

    Parameters
    ----------
    source
        The cells, with the genes that count.
    rows
        Which cells, ascending.
    """
    digests = b"".join(hashlib.blake2b(str(gene).encode(), digest_size=8).digest() for gene in source.genes)
    weight_g = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    hash_n = np.zeros(len(rows), dtype=np.uint64)
    for at in range(0, len(rows), _AT_ONCE):
        hash_n[at : at + _AT_ONCE] = _hashes(source.read(rows[at : at + _AT_ONCE]), weight_g)
    return hash_n


def sampled_rows(n: int) -> NDArray[np.int64]:
    """Return all rows or, of more than 200,000, evenly spaced blocks of about that many, which are quick to read."""
    if n <= _MAX_CELLS:
        return np.arange(n, dtype=np.int64)
    starts = np.linspace(0, n - _AT_ONCE, _MAX_CELLS // _AT_ONCE).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(_AT_ONCE)).ravel())


def _hashes(x_ng: Any, weight_g: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the weighted sum of the bits of each row."""
    rows = sparse.csr_matrix(x_ng, dtype=np.float32)
    bits_e = np.where(rows.data == 0, np.float32(0), rows.data).view(np.uint32).astype(np.uint64)  # -0.0 is zero
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(bits_e * weight_g[rows.indices], dtype=np.uint64)])
    return np.asarray(sums[rows.indptr[1:]] - sums[rows.indptr[:-1]], dtype=np.uint64)
