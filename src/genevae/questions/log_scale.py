"""Expression on a log scale, whatever the numbers in a file are."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from genevae.data.kind import Kind

__all__ = ["log_scale"]

LINEAR = {Kind.COUNTS, Kind.FRACTIONAL, Kind.NORMALISED}
"""Values of which logarithms are to be taken."""


def log_scale(x_ng: Any, kind: Kind) -> Any:
    """Return log(1 + x · 10⁴ / size), sparse where x is; values that are logarithms already, or scaled, as they are.

    Parameters
    ----------
    x_ng
        Cells × genes, dense or sparse.
    kind
        What the numbers are.
    """
    if kind not in LINEAR:
        return x_ng
    size_n1 = np.maximum(np.asarray(x_ng.sum(1), dtype=np.float64).reshape(-1, 1), 1e-6)
    if sparse.issparse(x_ng):
        return sparse.csr_matrix(x_ng).multiply(1e4 / size_n1).tocsr().log1p().astype(np.float32)
    return np.log1p(x_ng * (1e4 / size_n1)).astype(np.float32)
