"""Principal components: the linear model that a latent is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    """

    mean_g: Numbers
    axis_kg: Numbers

    @classmethod
    def fit(cls, x_ng: ArrayLike, n_axes: int, seed: int = 0) -> Self:
        """Fit as many axes as asked for, or as there can be.

        References
        ----------
        Halko, Martinsson and Tropp, SIAM Review 53:217 (2011), the randomised decomposition.
        """
        from sklearn.utils.extmath import randomized_svd

        x: Any = np.asarray(x_ng)
        mean_g = x.mean(0)
        n_axes = max(1, min(n_axes, x.shape[0] - 1, x.shape[1]))
        _, _, axis_kg = randomized_svd(x - mean_g, n_axes, random_state=seed)
        return cls(mean_g, axis_kg)

    def embed(self, x_ng: ArrayLike) -> Numbers:
        """Return where cells lie along the axes, cells × axes."""
        return np.asarray((np.asarray(x_ng) - self.mean_g) @ self.axis_kg.T)

    def reconstruct(self, x_ng: ArrayLike) -> Numbers:
        """Return the point nearest to each cell among those that the axes reach."""
        return np.asarray(self.mean_g + self.embed(x_ng) @ self.axis_kg)
