"""Principal components of log-normalised expression: what every latent is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.data.kind import Kind

__all__ = ["log_scale", "principal_components"]

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


def principal_components(fitted_ng: Any, asked_ng: Any, n: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return components of some cells, and the genes' loadings: as many as asked for, or as there are.

    Parameters
    ----------
    fitted_ng
        Expression of the cells that the components are found on, dense or sparse.
    asked_ng
        Expression of the cells that are to be placed.
    n
        Number of components.
    seed
        Of the search.

    Returns
    -------
    z_nk, loading_gk
        The components of the asked cells; and each gene's, times the component's standard deviation.
    """
    from sklearn.decomposition import PCA

    pca = PCA(min(n, min(fitted_ng.shape) - 1), svd_solver="arpack", random_state=seed).fit(fitted_ng)
    return np.asarray(pca.transform(asked_ng)), pca.components_.T * np.sqrt(pca.explained_variance_)
