"""Known labels of some cells, in the loss of another objective."""

from __future__ import annotations

from genevae.cells import Cells
from genevae.models.prior import LabelNormal
from genevae.models.vae import VAE
from genevae.objectives.adversary import Adversary, classification
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.schedules import Schedule
from genevae.objectives.views import ThinnedViews

__all__ = ["LabelledLatent"]


class LabelledLatent(Objective):
    """The loss of another objective − weight · mean log r(y | x) of the cells whose label y is known.

    r(y | x) ∝ π_y exp(−KL(q(z | x) ‖ p(z | y))) is the label by the latent, in closed form. ``labels`` is −log r, and
    ``label_accuracy`` the share of cells whose most probable label is the known one.

    Parameters
    ----------
    base
        The other objective.
    field
        The labels.
    weight
        Of the labels, in nats of the other loss.

    References
    ----------
    Kingma et al., NeurIPS (2014), for a bound with labels that are summed over where they are missing; Xu et al.,
    Molecular Systems Biology 17:e9620 (2021), for single cells.
    """

    def __init__(self, base: ELBO | Adversary | ThinnedViews, field: str, weight: float) -> None:
        super().__init__()
        self.base = base
        self.field = field
        self.weight = weight

    @property
    def beta(self) -> Schedule:
        """The schedule of β."""
        return self.base.beta

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss, in nats per cell."""
        loss = self.base(model, cells, progress)
        prior = model.prior(cells.condition)
        assert isinstance(prior, LabelNormal)  # noqa: S101 - of the recipe that has this objective
        log_r_1nc = prior.log_labels_nc(model.posterior(cells)).unsqueeze(0)
        entropy, accuracy = classification(log_r_1nc, cells.condition.codes[self.field], cells.shard)
        named = {**loss.terms, "labels": entropy.detach(), "label_accuracy": accuracy}
        return Loss(loss.total + self.weight * entropy, named, loss.per_cell_n)

    def settled(self, progress: Progress) -> bool:
        """Whether the schedules of the other objective have reached their targets."""
        return self.base.settled(progress)
