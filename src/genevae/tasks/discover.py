"""Which groups of cells there are in the latent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from genevae.errors import DataError, nearest
from genevae.tasks.clustering import Labels, Points, best_number, kmeans, leiden, margin_n, repeated
from genevae.tasks.embed import embed
from genevae.tasks.inference import TrainedModel

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["discover"]

METHODS = ("kmeans", "leiden")
MAX_CELLS = 20_000
"""Cells that are clustered at most; the others join the cluster whose centre is nearest."""
NUMBERS = range(2, 16)
"""Of clusters, among which the most stable is chosen."""
CHOICE_CELLS = 3_000
"""Cells on which the number is chosen."""


def discover(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    method: Literal["kmeans", "leiden"] = "kmeans",
    n_clusters: int | None = None,
    resolution: float = 1.0,
    n_repeats: int = 20,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
) -> pd.DataFrame:
    """Discover groups of cells in the latent, and how far each can be relied on.

    The posterior means are clustered; then four in five of the cells, drawn anew, are clustered again and again.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions.
    method
        k-means, or Leiden on the graph of 15 nearest neighbours, which needs `pip install 'genevae[leiden]'`.
    n_clusters
        Clusters of k-means; by default the largest number from 2 to 15 whose repeats agree about as well as the best.
    resolution
        Of Leiden: more gives more clusters.
    n_repeats
        Repeats, 2 at least.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Of the starts and the draws.

    Returns
    -------
    DataFrame
        One row per cell: ``cluster``, from 0, the largest first; ``stability`` of that cluster, the mean over repeats
        of its best Jaccard index with a cluster of the repeat (above 0.75 stable, below 0.5 not); ``margin``, near one
        where the cell is far from all other clusters' centres, near or below zero where it could be another's;
        ``agreement``, one number for the whole: the mean adjusted Rand index of pairs of repeats.

    Raises
    ------
    DataError
        If genes, columns or categories do not fit the model, a number is out of range, or Leiden is not installed.

    References
    ----------
    Hennig, Computational Statistics & Data Analysis 52:258 (2007).
    """
    if method not in METHODS:
        raise DataError(f"There is no method '{method}'. {nearest(method, METHODS)}")
    if n_repeats < 2 or not resolution > 0:
        raise DataError(f"n_repeats must be 2 or more and resolution above 0, not {n_repeats} and {resolution}.")
    if n_clusters is not None and (n_clusters < 1 or method == "leiden"):
        raise DataError("n_clusters is a number above 0, and for k-means only: Leiden takes a resolution.")
    cluster = leiden(resolution) if method == "leiden" else None
    latent = embed(model, data, layer=layer, batch_size=batch_size)
    z_nk = np.asarray(latent.obsm["X_genevae"], dtype=np.float64)
    if len(z_nk) < max(10, n_clusters or 0):
        raise DataError(f"There are {len(z_nk)} cells, which are too few to be grouped.")
    rng = np.random.default_rng(seed)
    drawn_nk = z_nk[_some(len(z_nk), MAX_CELLS, rng)]
    if cluster is None:
        sample_nk = drawn_nk[_some(len(drawn_nk), CHOICE_CELLS, rng)]
        numbers = [k for k in NUMBERS if k <= len(sample_nk) // 4]
        cluster = kmeans(n_clusters or best_number(sample_nk, numbers, n_repeats, seed))
    label_m = cluster(drawn_nk, seed)
    repeats = repeated(cluster, drawn_nk, n_repeats, seed)
    label_n, stability_c = _ordered(_joined(z_nk, drawn_nk, label_m), repeats.stability_c(label_m))
    return pd.DataFrame(
        {
            "cluster": label_n,
            "stability": stability_c[label_n],
            "margin": margin_n(z_nk, label_n),
            "agreement": repeats.agreement(),
        },
        index=latent.obs_names.rename("cell"),
    )


def _some(n: int, most: int, rng: np.random.Generator) -> Labels:
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _joined(z_nk: Points, drawn_mk: Points, label_m: Labels) -> Labels:
    """Give the cells that were not drawn the cluster whose centre is nearest."""
    if len(drawn_mk) == len(z_nk):
        return label_m
    centre_ck = np.stack([drawn_mk[label_m == c].mean(0) for c in range(label_m.max() + 1)])
    distance_nc = np.stack([np.linalg.norm(z_nk - centre_k, axis=1) for centre_k in centre_ck], 1)
    return np.asarray(distance_nc.argmin(1), dtype=np.int64)


def _ordered(label_n: Labels, stability_c: Points) -> tuple[Labels, Points]:
    """Give the clusters their numbers, from the largest to the smallest."""
    order = np.argsort(-np.bincount(label_n, minlength=len(stability_c)), kind="stable")
    rank_c = np.empty_like(order)
    rank_c[order] = np.arange(len(order))
    return rank_c[label_n], stability_c[order]
