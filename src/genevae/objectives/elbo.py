"""The evidence lower bound."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.models.vae import VAE, BoundTerms
from genevae.objectives.masking import CategoryDropout, GeneMask, mask_genes
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.schedules import Constant, Schedule

__all__ = ["ELBO"]

ALWAYS_ONE = Constant(1.0)


def unchanged(x_ng: Tensor, size_n1: Tensor) -> Tensor:  # noqa: ARG001 - the signature of a transform's inverse
    """Return x."""
    return x_ng


class ELBO(Objective):
    """−E_q[log p(x | z, c)] · weight + β · KL(q(z | x, c) ‖ p(z | c)), per cell.

    With a mask, the posterior sees cells with masked entries, and the likelihood is that of all entries. Validation
    passes complete cells, and also reports the reconstruction under a fixed and a random mask; and ``mse``, the mean of
    (x − E[x | z, c])² over measured entries, in the units of results: those of the data, or log-normalised values.

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
    invert
        Returns expression in the units of results, given that which the model sees, and sizes.

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
        invert: Callable[[Tensor, Tensor], Tensor] = unchanged,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.reconstruction_weight = reconstruction_weight
        self.mask = mask
        self.dropout = dropout
        self.invert = invert

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss, in nats per cell."""
        terms = self.terms(model, cells)
        loss = self.weigh(terms, progress)
        if not self.training:
            loss.terms.update(self.validation_terms(model, cells, terms))
        return loss

    def terms(self, model: VAE, cells: Cells) -> BoundTerms:
        """Compute the terms of the bound; in training, with masked entries and categories."""
        if self.training and self.dropout is not None:
            cells = self.dropout(cells)
        seen = self.mask(cells) if self.training and self.mask is not None else None
        return model.terms(cells, seen=seen)

    def weigh(self, terms: BoundTerms, progress: Progress | None) -> Loss:
        """Make a loss of the terms of the bound; in training, ``beta`` is one of its terms."""
        beta = progress.weight(self.beta) if progress else self.beta.target
        one = len(terms.log_px_sn) == 1
        reconstruction_n = -(terms.log_px_sn.squeeze(0) if one else terms.log_px_sn.mean(0))
        weighted_n = reconstruction_n
        if self.reconstruction_weight != 1:
            weighted_n = self.reconstruction_weight * reconstruction_n
        if isinstance(beta, Tensor):
            loss_n = weighted_n + beta * terms.kl_n
        else:
            loss_n = torch.add(weighted_n, terms.kl_n, alpha=beta)
        named = {"reconstruction": reconstruction_n.mean().detach(), "kl": terms.kl_n.mean().detach()}
        if progress:
            named["beta"] = beta if isinstance(beta, Tensor) else torch.full_like(named["kl"], beta)
        return Loss(loss_n.mean(), named, loss_n.detach())

    @property
    def is_static(self) -> bool:
        """Whether nothing is masked: the share of a mask is drawn on the CPU."""
        return type(self) is ELBO and self.mask is None

    def settled(self, progress: Progress) -> bool:
        """Whether β has reached its target, or is above it, as the peaks of early cycles may be."""
        return self.beta(progress.step, progress.n_steps) >= self.beta.target

    def validation_terms(self, model: VAE, cells: Cells, terms: BoundTerms) -> dict[str, Tensor]:
        """Return what is reported of validation cells besides the loss."""
        return {"mse": self.mse(cells, terms), **self.masked(model, cells)}

    @torch.no_grad()
    def mse(self, cells: Cells, terms: BoundTerms) -> Tensor:
        """Return the mean squared error of measured entries, in the units of results."""
        size_n1, measured_ng = cells.condition.size_n1, cells.condition.measured_ng
        mean_ng = terms.px.mean.mean(0)
        square_ng = (self.invert(cells.x.dense(), size_n1) - self.invert(mean_ng, size_n1)).square()
        if measured_ng is None:
            return square_ng.mean()
        return (square_ng * measured_ng).sum() / measured_ng.sum().clamp(min=1)

    def masked(self, model: VAE, cells: Cells) -> dict[str, Tensor]:
        """Return the reconstruction of all entries from masked cells, where there is a mask."""
        if self.mask is None:
            return {}
        masked = {"fixed_mask": mask_genes(cells, self.mask.middle), "dynamic_mask": self.mask(cells)}
        found = {name: model.terms(cells, seen=seen) for name, seen in masked.items()}
        return {f"reconstruction_{name}": -terms.log_px_sn.mean().detach() for name, terms in found.items()}
