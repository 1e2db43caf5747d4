"""Reading of chunks of a file into memory, many in one call that leaves other threads running; and their checksums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from genevae.kernels.compile import compiled, inlined

__all__ = ["fletcher32", "read", "read_verified", "sound"]

BLOCK = 256
"""Words whose sums, also of each times its place, fit into 32 bits."""
MODULUS = 65_535
_pread: Any = types.ExternalFunction("pread", types.int64(types.int32, types.int64, types.int64, types.int64))
"""The function of the C library; memory is given by its address."""


@compiled
def fletcher32(word_i: Any) -> Any:
    """Return the checksum of HDF5's filter of this name; see :func:`_fletcher32`."""
    return _fletcher32(word_i)


@compiled
def read(file: Any, at_c: Any, n_bytes_c: Any, address_c: Any) -> Any:
    """Read bytes of a file to addresses, and return how many pieces were read before one could not be."""
    for c in range(len(at_c)):
        if not _read(file, at_c[c], n_bytes_c[c], address_c[c]):
            return c
    return len(at_c)


@compiled
def read_verified(file: Any, at_c: Any, n_bytes_c: Any, skip_c: Any, room: Any, out_i: Any) -> Any:
    """Read chunks that end in their checksum, and return how many were read before one could not be, or is damaged.

    Parameters
    ----------
    file
        The number of the open file.
    at_c, n_bytes_c
        Where each chunk is in the file, with its checksum.
    skip_c
        For each chunk, how many of its words are left out, and after how many it ends.
    room
        Words of 16 bits, as many as the longest chunk has.
    out_i
        Words of 16 bits, which are written one chunk after the other.
    """
    done = 0
    for c in range(len(at_c)):
        if not _read(file, at_c[c], n_bytes_c[c], room.ctypes.data):
            return c
        n = n_bytes_c[c] // 2 - 2
        if _fletcher32(room[:n]) != np.uint32(room[n]) | (np.uint32(room[n + 1]) << np.uint32(16)):
            return c
        for i in range(skip_c[c, 0], skip_c[c, 1]):
            out_i[done] = room[i]
            done += 1
    return len(at_c)


@inlined
def _read(file: Any, at: Any, n_bytes: Any, address: Any) -> Any:
    done = 0
    while done < n_bytes:
        n = _pread(np.int32(file), address + done, n_bytes - done, at + done)
        if n <= 0:  # the end of the file, or an error
            return False
        done += n
    return True


@compiled
def sound(indptr_n: Any, gene_e: Any, n_genes: Any) -> Any:
    """Return 0 where a gene is not one of so many, 1 where the genes of a row do not ascend, and else 2."""
    outside = np.int64(0)
    for start in range(0, len(gene_e), BLOCK):  # so that sums are of 32 bits, which become vectors
        block, n_outside = gene_e[start : start + BLOCK], np.int32(0)
        for e in range(len(block)):
            n_outside += np.int32(block[e] < 0) + np.int32(block[e] >= np.int32(n_genes))
        outside += n_outside
    if outside:
        return 0
    not_rising = np.int64(0)
    for start in range(0, len(gene_e) - 1, BLOCK):
        following = gene_e[start + 1 : start + 1 + BLOCK]
        block, n_not = gene_e[start : start + len(following)], np.int32(0)
        for e in range(len(following)):
            n_not += np.int32(following[e] <= block[e])
        not_rising += n_not
    for i in range(1, len(indptr_n) - 1):  # a row may start below the end of the one before
        e = indptr_n[i]
        if 0 < e < len(gene_e) and e > indptr_n[i - 1] and gene_e[e] <= gene_e[e - 1]:
            not_rising -= 1
    return 1 if not_rising else 2


@inlined
def _fletcher32(word_i: Any) -> Any:
    """Return the checksum of words of 16 bits, of which HDF5 takes the first byte as the higher.

    The sums are S₁ = Σ wᵢ and S₂ = Σ (n − i) wᵢ modulo 65,535, where only a sum of zeros is 0. Modulo this number,
    exchanging the two bytes of a word is multiplying it by 256, so words can be summed as they are stored.
    """
    n = len(word_i)
    first, second = np.uint64(0), np.uint64(0)
    for start in range(0, n, BLOCK):
        block = word_i[start : start + BLOCK]
        total, by_place = np.uint32(0), np.uint32(0)
        for i in range(len(block)):
            word = np.uint32(block[i])
            total += word
            by_place += np.uint32(i) * word
        first += np.uint64(total)
        second = (second + np.uint64(n - start) * np.uint64(total) - np.uint64(by_place)) % np.uint64(MODULUS)
    if first == 0:
        return np.uint32(0)
    low = np.uint32(np.uint64(256) * (first % np.uint64(MODULUS)) % np.uint64(MODULUS))
    high = np.uint32(np.uint64(256) * second % np.uint64(MODULUS))
    low, high = (low or np.uint32(MODULUS)), (high or np.uint32(MODULUS))
    return (high << np.uint32(16)) | low
