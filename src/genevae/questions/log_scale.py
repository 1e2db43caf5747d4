"""Expression on a log scale, whatever the numbers in a file are."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from genevae.data.kind import Kind
from genevae.evaluation.response import log_normalised

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
    if sparse.issparse(x_ng):
        size_n1 = np.maximum(np.asarray(x_ng.sum(1), dtype=np.float64).reshape(-1, 1), 1e-6)
        return sparse.csr_matrix(x_ng).multiply(1e4 / size_n1).tocsr().log1p().astype(np.float32)
    return log_normalised(x_ng).astype(np.float32)
