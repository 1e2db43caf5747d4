"""Known labels of some cells, in the loss of another objective."""

from __future__ import annotations

from torch import Tensor

from genevae.cells import Cells
from genevae.models.prior import LabelNormal
from genevae.models.vae import VAE
from genevae.objectives.adversary import classification
from genevae.objectives.objective import Added, Objective

__all__ = ["LabelledLatent"]


class LabelledLatent(Added):
    """The loss of another objective − weight · mean log r(y | x) of the cells whose label y is known.

    r(y | x) ∝ π_y exp(−KL(q(z | x) ‖ p(z | y))) is the label by the latent, in closed form. ``labels`` is −log r, and
    ``label_accuracy`` the share of cells whose most probable label is the known one.

    Parameters
    ----------
    base, weight
        As for :class:`~genevae.objectives.objective.Added`.
    field
        The labels.

    References
    ----------
    Kingma et al., NeurIPS (2014), for a bound with labels that are summed over where they are missing; Xu et al.,
    Molecular Systems Biology 17:e9620 (2021), for single cells.
    """

    def __init__(self, base: Objective, field: str, weight: float) -> None:
        super().__init__(base, weight)
        self.field = field

    def term(self, model: VAE, cells: Cells) -> tuple[Tensor, dict[str, Tensor]]:
        """Return −log r of the known labels, and the share of them that is the most probable label."""
        prior = model.prior(cells.condition)
        assert isinstance(prior, LabelNormal)  # noqa: S101 - of the recipe that has this objective
        log_r_1nc = prior.log_labels_nc(model.posterior(cells)).unsqueeze(0)
        entropy, accuracy = classification(log_r_1nc, cells.condition.codes[self.field], cells.shard)
        return entropy, {"labels": entropy.detach(), "label_accuracy": accuracy}
