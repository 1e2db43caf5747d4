"""A group lasso on the loadings of a linear likelihood."""

from __future__ import annotations

from genevae.cells import Cells
from genevae.models.vae import VAE
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.schedules import Schedule

__all__ = ["GroupLasso"]

SMALL = 1e-6


class GroupLasso(Objective):
    """The bound + weight · Σ_k √n_k · |w_k|, where w_k are the n_k loadings of dimension k that are not always zero.

    A dimension that explains less than it costs loses all of its loadings; ``active`` is the number of the others.

    Parameters
    ----------
    base
        The bound.
    weight
        In nats of the bound.

    References
    ----------
    Yuan and Lin, Journal of the Royal Statistical Society B 68:49 (2006); Lotfollahi et al., Nature Cell Biology 25:337
    (2023), for gene programs.
    """

    def __init__(self, base: ELBO, weight: float) -> None:
        super().__init__()
        self.base = base
        self.weight = weight

    @property
    def beta(self) -> Schedule:
        """The schedule of β."""
        return self.base.beta

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss, in nats per cell."""
        loss = self.base(model, cells, progress)
        loadings_gk = model.loadings()
        assert loadings_gk is not None  # noqa: S101 - of the recipe that has this objective
        n_k = (loadings_gk != 0).sum(0)
        length_k = (loadings_gk.square().sum(0) + SMALL).sqrt()
        cost = (n_k.sqrt() * length_k).sum()
        named = {**loss.terms, "lasso": cost.detach(), "active": (length_k > 0.05 * n_k.sqrt()).sum().float()}
        return Loss(loss.total + self.weight * cost, named, loss.per_cell_n)

    def settled(self, progress: Progress) -> bool:
        """Whether β has reached its target."""
        return self.base.settled(progress)
