"""The evidence lower bound."""

from __future__ import annotations

import torch

from genevae.cells import Cells
from genevae.models.vae import VAE, BoundTerms
from genevae.objectives.masking import CategoryDropout, GeneMask, mask_genes
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.schedules import Constant, Schedule

__all__ = ["ELBO"]

ALWAYS_ONE = Constant(1.0)


class ELBO(Objective):
    """−E_q[log p(x | z, c)] · weight + β · KL(q(z | x, c) ‖ p(z | c)), per cell.

    With a mask, the posterior sees cells with masked entries, and the likelihood is that of all entries. Validation
    passes complete cells, and also reports the reconstruction under a fixed and a random mask.

    Parameters
    ----------
    beta
        Weight of the KL term.
    reconstruction_weight
        Weight of the likelihood.
    mask
        Masks entries of the posterior's input in training.
    dropout
        Replaces categories by “unknown” in training.

    References
    ----------
    Higgins et al., ICLR (2017), for β other than one.
    """

    def __init__(
        self,
        beta: Schedule = ALWAYS_ONE,
        reconstruction_weight: float = 1.0,
        mask: GeneMask | None = None,
        dropout: CategoryDropout | None = None,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.reconstruction_weight = reconstruction_weight
        self.mask = mask
        self.dropout = dropout

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss, in nats per cell."""
        loss = self.weigh(self.terms(model, cells), progress)
        if not self.training:
            loss.terms.update(self.masked(model, cells))
        return loss

    def terms(self, model: VAE, cells: Cells) -> BoundTerms:
        """Compute the terms of the bound; in training, with masked entries and categories."""
        if self.training and self.dropout is not None:
            cells = self.dropout(cells)
        seen = self.mask(cells) if self.training and self.mask is not None else None
        return model.terms(cells, seen=seen)

    def weigh(self, terms: BoundTerms, progress: Progress | None) -> Loss:
        """Make a loss of the terms of the bound."""
        beta = self.beta(progress.step, progress.n_steps) if progress else self.beta.target
        reconstruction_n = -terms.log_px_sn.mean(0)
        loss_n = self.reconstruction_weight * reconstruction_n + beta * terms.kl_n
        named = {"reconstruction": reconstruction_n.mean().detach(), "kl": terms.kl_n.mean().detach()}
        return Loss(loss_n.mean(), named, loss_n.detach())

    def settled(self, progress: Progress) -> bool:
        """Whether β has reached its target, or is above it, as the peaks of early cycles may be."""
        return self.beta(progress.step, progress.n_steps) >= self.beta.target

    def masked(self, model: VAE, cells: Cells) -> dict[str, torch.Tensor]:
        """Return the reconstruction of all entries from masked cells, where there is a mask."""
        if self.mask is None:
            return {}
        masked = {"fixed_mask": mask_genes(cells, self.mask.middle), "dynamic_mask": self.mask(cells)}
        found = {name: model.terms(cells, seen=seen) for name, seen in masked.items()}
        return {f"reconstruction_{name}": -terms.log_px_sn.mean().detach() for name, terms in found.items()}
