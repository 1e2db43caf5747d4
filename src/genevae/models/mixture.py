"""A mixture of normal distributions over latents and log sizes, one for each cluster of reference cells."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from genevae.models.clusters import Clusters
from genevae.models.reference import Reference

__all__ = ["Mixture"]


class Mixture:
    """Draws cells that are like some reference cells, and the same as none.

    The latent and the log size of a cell come from the normal distribution of its cluster: the mean and the covariance
    of [z, log size] among its cells, where z is a sample of each posterior. Correlations are shrunk towards zero, as
    Ledoit and Wolf (2004) do it, and variances are kept.

    Parameters
    ----------
    reference
        The cells.
    clusters
        Their clusters.
    """

    def __init__(self, reference: Reference, clusters: Clusters) -> None:
        self.reference, self.clusters = reference, clusters
        z_nk = reference.mean_nk + reference.scale_nk * torch.randn_like(reference.mean_nk)
        self._both_nk = torch.cat([z_nk, reference.condition.size_n1.clamp(min=1e-12).log()], dim=1).double()
        self._normals: dict[int, MultivariateNormal] = {}

    def like(self, row_n: Tensor) -> Reference:
        """Draw a cell for each of these reference cells, with its covariates.

        Sizes are within those of the cluster, and whole numbers if those are. Cells without a cluster keep their
        posterior and their size.
        """
        start = self.reference.take(row_n)
        mean_nk, scale_nk, size_n1 = start.mean_nk.clone(), start.scale_nk.clone(), start.condition.size_n1.clone()
        cluster_n = self.clusters.cluster_n[row_n]
        for number in cluster_n[cluster_n >= 0].unique().tolist():
            here_n = cluster_n == number
            sample = self._normal(number).sample((int(here_n.sum()),)).to(mean_nk)
            sizes = self.reference.condition.size_n1[self.clusters.cluster_n == number]
            mean_nk[here_n], scale_nk[here_n] = sample[:, :-1], 0.0
            size_n1[here_n] = sample[:, -1:].exp().clamp(sizes.min(), sizes.max())
            if torch.equal(sizes, sizes.round()):
                size_n1[here_n] = size_n1[here_n].round()
        return replace(start, mean_nk=mean_nk, scale_nk=scale_nk, condition=start.condition.with_size(size_n1))

    def of_cluster(self, number: int, n: int) -> Reference:
        """Draw cells of one cluster."""
        rows = (self.clusters.cluster_n == number).nonzero().squeeze(-1)
        return self.like(rows[torch.randint(len(rows), (n,))])

    def _normal(self, number: int) -> MultivariateNormal:
        from sklearn.covariance import ledoit_wolf

        if number not in self._normals:
            here_n = self.clusters.cluster_n == number
            both_nk = self._both_nk[here_n]
            if len(both_nk) == 1:  # one cell: its own posterior, and its size
                spread_nk = torch.nn.functional.pad(self.reference.scale_nk[here_n].double(), (0, 1)).clamp(min=1e-6)
                mean_nk = torch.cat([self.reference.mean_nk[here_n].double(), both_nk[:, -1:]], 1)
                self._normals[number] = MultivariateNormal(mean_nk[0], torch.diag(spread_nk[0].square()))
                return self._normals[number]
            scale_k = both_nk.std(0).clamp(min=1e-6)
            correlation = torch.from_numpy(ledoit_wolf(((both_nk - both_nk.mean(0)) / scale_k).numpy())[0])
            covariance = (correlation + 1e-6 * torch.eye(len(correlation))) * torch.outer(scale_k, scale_k)
            self._normals[number] = MultivariateNormal(both_nk.mean(0), covariance)
        return self._normals[number]
