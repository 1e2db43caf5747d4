"""Texts of AnnData stores, such as the names of millions of cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from anndata.experimental import read_dispatched
from numpy.typing import NDArray

__all__ = ["read_with_few_copies"]

AT_ONCE = 2**16
"""Texts that are read together: libraries hold each several times while they decode it."""


def read_with_few_copies(stored: Any) -> Any:
    """Read an element as :func:`anndata.io.read_elem` does, but arrays of texts block by block."""
    return read_dispatched(stored, _read)


def _read(function: Callable[[Any], Any], key: str, stored: Any, iospec: Any) -> Any:  # noqa: ARG001
    if iospec.encoding_type != "string-array" or len(stored.shape) != 1:
        return function(stored)
    return _texts(stored.asstr() if hasattr(stored, "asstr") else stored, stored.shape[0], stored.chunks)


def _texts(stored: Any, n: int, chunks: tuple[int, ...] | None) -> NDArray[Any]:
    chunk = chunks[0] if chunks else 1
    step = max(AT_ONCE // chunk, 1) * chunk  # no chunk is read twice
    texts = np.empty(n, dtype=object)
    for start in range(0, n, step):
        texts[start : start + step] = stored[start : start + step]
    return texts
