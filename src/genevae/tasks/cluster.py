"""Clusters of cells in the latent space, with their stability."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from genevae.errors import DataError, nearest
from genevae.tasks.clustering import Labels, Points, best_n_clusters, cluster_subsamples, kmeans, leiden, margin_n
from genevae.tasks.embed import embed
from genevae.tasks.inference import TrainedModel
from genevae.tasks.task import add_to, task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["cluster"]

METHODS = ("kmeans", "leiden")
MAX_CELLS = 20_000
"""Cells to cluster at most. Other cells are assigned to the nearest cluster centre."""
N_CLUSTERS = range(2, 16)
"""Candidate numbers of clusters for k-means."""
SELECTION_CELLS = 3_000
"""Cells on which the number of clusters is selected."""


@task
def cluster(
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
    key_added: str | None = None,
) -> pd.DataFrame:
    """Cluster cells in the latent space, and measure how stable each cluster is.

    The posterior means are clustered once, and again on random subsamples of 80 % of the cells.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions.
    method
        "kmeans", or "leiden" on the graph of 15 nearest neighbours, which needs `pip install 'genevae[leiden]'`.
    n_clusters
        Number of clusters for k-means; by default the largest number from 2 to 15 whose subsamples agree about as well
        as the best.
    resolution
        Resolution for Leiden; a higher one gives more clusters.
    n_repeats
        Number of subsamples, at least 2.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Seed of the initial centres and the subsamples.
    key_added
        Also add the result to the given AnnData, as ``obs[key_added]`` and ``obs[key_added + "_stability"]``.

    Returns
    -------
    DataFrame
        One row per cell. ``cluster``: numbered from 0, the largest first. ``stability`` of that cluster: the mean over
        subsamples of its best Jaccard index with a cluster of the subsample (above 0.75 is stable, below 0.5 is not).
        ``margin``: near one if the cell is far from all other cluster centres, near or below zero if it could belong to
        another. ``agreement``: the mean adjusted Rand index over pairs of subsamples, the same for all cells.

    Raises
    ------
    DataError
        If genes, columns or categories do not fit the model, a number is out of range, or Leiden is not installed.

    References
    ----------
    Hennig, Computational Statistics & Data Analysis 52:258 (2007).
    """
    if method not in METHODS:
        raise DataError(f"Unknown method '{method}'. {nearest(method, METHODS)}")
    if n_repeats < 2 or not resolution > 0:
        raise DataError(f"n_repeats must be 2 or more and resolution above 0, not {n_repeats} and {resolution}.")
    if n_clusters is not None and (n_clusters < 1 or method == "leiden"):
        raise DataError("n_clusters must be above 0, and is for k-means only. For Leiden, set the resolution.")
    algorithm = leiden(resolution) if method == "leiden" else None
    latent = embed(model, data, layer=layer, batch_size=batch_size)
    z_nk = np.asarray(latent.obsm["X_genevae"], dtype=np.float64)
    if len(z_nk) < max(10, n_clusters or 0):
        raise DataError(f"There are {len(z_nk)} cells, which are too few to cluster.")
    rng = np.random.default_rng(seed)
    sample_mk = z_nk[_subsample(len(z_nk), MAX_CELLS, rng)]
    if algorithm is None:
        selection_nk = sample_mk[_subsample(len(sample_mk), SELECTION_CELLS, rng)]
        candidates = [k for k in N_CLUSTERS if k <= len(selection_nk) // 4]
        algorithm = kmeans(n_clusters or best_n_clusters(selection_nk, candidates, n_repeats, seed))
    label_m = algorithm(sample_mk, seed)
    subsamples = cluster_subsamples(algorithm, sample_mk, n_repeats, seed)
    label_n, stability_c = _largest_first(_assign_all(z_nk, sample_mk, label_m), subsamples.stability_c(label_m))
    table = pd.DataFrame(
        {
            "cluster": label_n,
            "stability": stability_c[label_n],
            "margin": margin_n(z_nk, label_n),
            "agreement": subsamples.agreement(),
        },
        index=latent.obs_names.rename("cell"),
    )
    if key_added is not None:
        labels = pd.Categorical(label_n.astype(str), [str(label) for label in range(len(stability_c))])
        add_to(data, {f"obs/{key_added}": labels, f"obs/{key_added}_stability": table["stability"].to_numpy()})
    return table


def _subsample(n: int, limit: int, rng: np.random.Generator) -> Labels:
    return np.arange(n) if n <= limit else np.sort(rng.choice(n, limit, replace=False))


def _assign_all(z_nk: Points, sample_mk: Points, label_m: Labels) -> Labels:
    """Assign every cell to the nearest cluster centre, unless all cells were clustered."""
    if len(sample_mk) == len(z_nk):
        return label_m
    centre_ck = np.stack([sample_mk[label_m == c].mean(0) for c in range(label_m.max() + 1)])
    distance_nc = np.stack([np.linalg.norm(z_nk - centre_k, axis=1) for centre_k in centre_ck], 1)
    return np.asarray(distance_nc.argmin(1), dtype=np.int64)


def _largest_first(label_n: Labels, stability_c: Points) -> tuple[Labels, Points]:
    """Renumber the clusters from the largest to the smallest."""
    order = np.argsort(-np.bincount(label_n, minlength=len(stability_c)), kind="stable")
    rank_c = np.empty_like(order)
    rank_c[order] = np.arange(len(order))
    return rank_c[label_n], stability_c[order]
