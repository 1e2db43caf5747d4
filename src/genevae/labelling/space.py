"""Principal components in which cells have neighbours, and distances to labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from genevae.metrics.principal import Principal

__all__ = ["Distance", "Space", "neighbour_shares"]

Numbers = NDArray[np.float64]
N_AXES, N_NEIGHBOURS, N_QUANTILES = 50, 15, 1001
BLOCK = 1024
"""Cells whose distances to all others are computed at once."""


@dataclass(frozen=True, eq=False)
class Space:
    """Principal components of log-normalised expression, and the training cells in them.

    Parameters
    ----------
    axis_gk
        z = x A − c.
    centre_k
        c.
    cell_nk
        The training cells.
    """

    axis_gk: NDArray[np.float32]
    centre_k: NDArray[np.float32]
    cell_nk: NDArray[np.float32]

    @classmethod
    def fit(cls, x_ng: NDArray[np.float32], scale_g: NDArray[np.float32] | None = None) -> Self:
        """Find the axes along which training cells vary most, of genes in units of ``scale_g``."""
        scale_g = np.ones(x_ng.shape[1], np.float32) if scale_g is None else scale_g
        found = Principal.fit(x_ng / scale_g, N_AXES)
        axis_gk = np.ascontiguousarray(found.axis_kg.T / scale_g[:, None], np.float32)
        centre_k = x_ng.mean(0) @ axis_gk
        return cls(axis_gk, centre_k, x_ng @ axis_gk - centre_k)

    def embed(self, x_ng: NDArray[np.float32]) -> Numbers:
        """Return the coordinates of cells."""
        return (x_ng @ self.axis_gk - self.centre_k).astype(np.float64)

    @property
    def training_nk(self) -> Numbers:
        """The training cells, in double precision."""
        return self.cell_nk.astype(np.float64)

    def nearest(self, z_nk: Numbers, of_training: bool = False) -> NDArray[np.int64]:
        """Return the numbers of the 15 nearest training cells of each cell, in no order.

        Parameters
        ----------
        z_nk
            Coordinates.
        of_training
            Whether they are the training cells, none of which is its own neighbour.
        """
        cell_nk = self.training_nk
        k = min(N_NEIGHBOURS, len(cell_nk) - of_training)
        found = []
        for at in range(0, len(z_nk), BLOCK):
            some_nk = z_nk[at : at + BLOCK]
            square_nm = np.square(cell_nk).sum(1) - 2 * some_nk @ cell_nk.T
            if of_training:
                square_nm[np.arange(len(some_nk)), at + np.arange(len(some_nk))] = np.inf
            found.append(np.argpartition(square_nm, k - 1, axis=1)[:, :k])
        return np.concatenate(found) if found else np.empty((0, k), dtype=np.int64)


def neighbour_shares(nearest_nm: NDArray[np.int64], code_n: NDArray[np.int64], share_c: Numbers) -> Numbers:
    """Return the log share of each category among the neighbours of cells, with the overall shares as one neighbour.

    Parameters
    ----------
    nearest_nm
        The neighbours of each cell.
    code_n
        The category of each training cell; those below zero do not count.
    share_c
        The share of each category among the training cells, above zero.
    """
    label_nm = code_n[nearest_nm]
    count_nc = np.stack([(label_nm == code).sum(1) for code in range(len(share_c))], 1) + share_c
    return np.asarray(np.log(count_nc / count_nc.sum(1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class Distance:
    """Mahalanobis distances to the nearest label, with one covariance for all labels.

    Parameters
    ----------
    mean_ck
        The mean of each label; NaN without cells.
    precision_kk
        The inverse of the covariance of cells around the mean of their label, shrunk towards a multiple of one.
    quantile_q
        Quantiles of the distances of training cells from labels that were computed without them.

    References
    ----------
    Lee et al., NeurIPS (2018).
    """

    mean_ck: Numbers
    precision_kk: Numbers
    quantile_q: Numbers

    @classmethod
    def fit(cls, z_nk: Numbers, code_n: NDArray[np.int64], n_categories: int) -> Self:
        """Compute the means and the covariance; the quantiles are left out."""
        mean_ck = np.full((n_categories, z_nk.shape[1]), np.nan)
        for code in np.unique(code_n):
            mean_ck[code] = z_nk[code_n == code].mean(0)
        rest_nk = z_nk - mean_ck[code_n]
        n, k = z_nk.shape
        covariance_kk = rest_nk.T @ rest_nk
        level = max(float(np.trace(covariance_kk)) / n / k, 1e-12)
        return cls(mean_ck, np.linalg.inv((covariance_kk + k * level * np.eye(k)) / (n + k)), np.empty(0))

    def square_n(self, z_nk: Numbers) -> Numbers:
        """Return the squared distance of each cell to the nearest label."""
        mean_ck = self.mean_ck[np.isfinite(self.mean_ck[:, 0])]
        root_kk = np.linalg.cholesky(self.precision_kk)
        a_nk, b_ck = z_nk @ root_kk, mean_ck @ root_kk
        square_nc = np.square(a_nk).sum(1)[:, None] - 2 * a_nk @ b_ck.T + np.square(b_ck).sum(1)
        return np.asarray(square_nc.min(1).clip(min=0))

    def rank_n(self, z_nk: Numbers) -> Numbers:
        """Return the share of training cells that are nearer to their nearest label than each cell is."""
        return np.interp(self.square_n(z_nk), self.quantile_q, np.linspace(0, 1, len(self.quantile_q)))
