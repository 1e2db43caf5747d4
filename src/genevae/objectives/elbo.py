"""The evidence lower bound."""

from __future__ import annotations

from genevae.cells import Cells
from genevae.models.vae import VAE
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.schedules import Constant, Schedule

__all__ = ["ELBO"]

ALWAYS_ONE = Constant(1.0)


class ELBO(Objective):
    """−E_q[log p(x | z, c)] · weight + β · KL(q(z | x, c) ‖ p(z | c)), per cell.

    Parameters
    ----------
    beta
        Weight of the KL term.
    reconstruction_weight
        Weight of the likelihood.
    n_particles
        Draws from the posterior for each cell.

    References
    ----------
    Higgins et al., ICLR (2017), for β other than one.
    """

    def __init__(self, beta: Schedule = ALWAYS_ONE, reconstruction_weight: float = 1.0, n_particles: int = 1) -> None:
        super().__init__()
        self.beta = beta
        self.reconstruction_weight = reconstruction_weight
        self.n_particles = n_particles

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss, in nats per cell."""
        beta = self.beta(progress.step, progress.n_steps) if progress else self.beta.target
        terms = model.terms(cells, self.n_particles)
        reconstruction_n = -terms.log_px_sn.mean(0)
        loss_n = self.reconstruction_weight * reconstruction_n + beta * terms.kl_n
        total = loss_n.mean()
        named = {"reconstruction": reconstruction_n.mean().detach(), "kl": terms.kl_n.mean().detach()}
        return Loss(total, named, loss_n.detach())

    def settled(self, progress: Progress) -> bool:
        """Say whether β has reached its target."""
        return self.beta(progress.step, progress.n_steps) == self.beta.target
