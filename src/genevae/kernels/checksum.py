"""The checksum of HDF5's filter fletcher32, whose sums are made over vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from genevae.kernels.compile import compiled

__all__ = ["fletcher32"]

BLOCK = 256
"""Words whose sums, also of each times its place, fit into 32 bits."""
MODULUS = 65_535


@compiled
def fletcher32(word_i: Any) -> Any:
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
