"""Principal components: the linear model that a latent is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

__all__ = ["Principal"]

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Principal:
    """The directions in which training cells vary most.

    Parameters
    ----------
    mean_g
        Their mean.
    axis_kg
        Unit vectors, at right angles to each other.
    scale_k
        Standard deviation of the training cells along each.
    """

    mean_g: Numbers
    axis_kg: Numbers
    scale_k: Numbers

    @classmethod
    def fit(cls, x_ng: ArrayLike | sparse.csr_matrix, n_axes: int, seed: int = 0) -> Self:
        """Fit so many axes, or as many as there can be, to dense or sparse rows.

        References
        ----------
        Halko, Martinsson and Tropp, SIAM Review 53:217 (2011), the randomised decomposition.
        """
        from sklearn.decomposition import PCA

        x: Any = x_ng if sparse.issparse(x_ng) else np.asarray(x_ng)
        n_axes = max(1, min(n_axes, x.shape[0] - 1, x.shape[1] - sparse.issparse(x)))
        solver = "arpack" if sparse.issparse(x) else "randomized"
        found = PCA(n_axes, svd_solver=solver, random_state=seed).fit(x)
        return cls(found.mean_, found.components_, np.sqrt(found.explained_variance_))

    @property
    def loading_gk(self) -> Numbers:
        """Each gene's weight in each axis, times the standard deviation along it."""
        return np.asarray(self.axis_kg.T * self.scale_k)

    def embed(self, x_ng: ArrayLike | sparse.csr_matrix) -> Numbers:
        """Return where cells lie along the axes, cells × axes."""
        x: Any = x_ng if sparse.issparse(x_ng) else np.asarray(x_ng)
        return np.asarray(x @ self.axis_kg.T - self.mean_g @ self.axis_kg.T)

    def reconstruct(self, x_ng: ArrayLike) -> Numbers:
        """Return the point nearest to each cell among those that the axes reach."""
        return np.asarray(self.mean_g + self.embed(x_ng) @ self.axis_kg)
