"""A group lasso on the loadings of a linear likelihood."""

from __future__ import annotations

from torch import Tensor

from genevae.cells import Cells
from genevae.models.vae import VAE
from genevae.objectives.objective import Added

__all__ = ["GroupLasso"]

SMALL = 1e-6


class GroupLasso(Added):
    """The bound + weight · Σ_k √n_k · |w_k|, where w_k are the n_k loadings of dimension k that are not always zero.

    A dimension that explains less than it costs loses all of its loadings; ``active`` is the number of the others.

    Parameters
    ----------
    base, weight
        As for :class:`~genevae.objectives.objective.Added`.

    References
    ----------
    Yuan and Lin, Journal of the Royal Statistical Society B 68:49 (2006); Lotfollahi et al., Nature Cell Biology 25:337
    (2023), for gene programs.
    """

    def term(self, model: VAE, cells: Cells) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002 - the base's signature
        """Return the lasso, and the number of dimensions that are active."""
        loadings_gk = model.loadings()
        assert loadings_gk is not None  # noqa: S101 - of the recipe that has this objective
        n_k = (loadings_gk != 0).sum(0)
        length_k = (loadings_gk.square().sum(0) + SMALL).sqrt()
        cost = (n_k.sqrt() * length_k).sum()
        return cost, {"lasso": cost.detach(), "active": (length_k > 0.05 * n_k.sqrt()).sum().float()}
