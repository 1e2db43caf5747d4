"""`genevae cluster`."""

from __future__ import annotations

from typing import Literal

import genevae as gv
from genevae.cli.endings import cluster_lines
from genevae.cli.options import Data, Force, Run, Table
from genevae.cli.table_output import require_table, save_table

__all__ = ["cluster"]


def cluster(
    run: Run,
    data: Data,
    *,
    out: Table,
    force: Force = False,
    method: Literal["kmeans", "leiden"] = "kmeans",
    n_clusters: int | None = None,
    resolution: float = 1.0,
    n_repeats: int = 20,
    batch_size: int = 512,
    seed: int = 0,
) -> None:
    """Cluster cells in the latent, with the stability of each cluster.

    Parameters
    ----------
    method
        k-means, or Leiden on the graph of 15 nearest neighbours (`pip install 'genevae[leiden]'`).
    n_clusters
        Clusters of k-means; by default the largest number from 2 to 15 whose repeats agree about as well as the best.
    resolution
        Of Leiden: more gives more clusters.
    n_repeats
        Repeats on random subsets, at least 2.
    batch_size
        Cells in one step.
    seed
        Of the random draws.
    """
    require_table(out, force, run, data)
    table = gv.cluster(
        gv.load(run), data, method=method, n_clusters=n_clusters, resolution=resolution, n_repeats=n_repeats,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    save_table(table, out, cluster_lines(table))
