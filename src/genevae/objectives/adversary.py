"""An adversary that tells the technical batch from the latent, and a posterior that learns to give it nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from genevae.cells import Cells
from genevae.models.vae import VAE
from genevae.nn.mlp import MLP, LayerStyle
from genevae.nn.reversal import reverse_gradient
from genevae.nn.sharding import count_of_all, mean_of_all, share
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.schedules import Schedule

__all__ = ["Adversary", "Discriminator"]


class Discriminator(nn.Module):
    """Logits of a category given the latent: an MLP without dropout, so that it is no weaker than it could be.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    hidden
        Width of each hidden layer.
    n_categories
        Categories to tell apart.
    """

    def __init__(self, n_latent: int, hidden: Sequence[int], n_categories: int) -> None:
        super().__init__()
        style = LayerStyle(lambda _: nn.Identity(), nn.LeakyReLU, dropout=0.0)
        self.trunk = MLP(n_latent, hidden, style)
        self.logits = nn.Linear(self.trunk.n_out, n_categories)

    def forward(self, z: Tensor) -> Tensor:
        """Map ``(…, n, k)`` to ``(…, n, c)``."""
        return self.logits(self.trunk(z))  # type: ignore[no-any-return]


class Adversary(Objective):
    """min over the model, max over the discriminator D, of loss − strength · CE(D(z), batch), z ~ q(z | x, c).

    The first part is the loss of the bound. CE is the mean cross-entropy of the discriminator in nats per cell; one
    backward pass trains both sides: the discriminator is given the plain gradient of CE, and the posterior −strength
    times it, by gradient reversal.

    The total, in training as in validation, is the value of this game: it falls when the bound rises, and when the
    discriminator is more confused. Confusion counts up to log(number of batches) and not beyond, so that a
    discriminator that is confidently wrong about new cells is not taken for a latent without a trace of the batch.
    Validation takes the value at the strength's target, and so early stopping keeps the weights that are good at both.

    Cells whose batch is unknown take part in the bound only.

    Parameters
    ----------
    bound
        The loss of the bound.
    field
        The categorical condition that the latent should not tell.
    discriminator
        Makes logits of the field's categories from z.
    strength
        Weight of the adversary, in nats of the bound per nat of cross-entropy.

    References
    ----------
    Ganin et al., JMLR 17:59 (2016).
    """

    def __init__(self, bound: ELBO, field: str, discriminator: Discriminator, strength: Schedule) -> None:
        super().__init__()
        self.bound = bound
        self.field = field
        self.discriminator = discriminator
        self.strength = strength

    @property
    def beta(self) -> Schedule:
        """The schedule of β."""
        return self.bound.beta

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the value of the game, in nats per cell."""
        strength = self.strength(progress.step, progress.n_steps) if progress else self.strength.target
        terms = self.bound.terms(model, cells)
        loss = self.bound.weigh(terms, progress)
        logits_snc = self.discriminator(reverse_gradient(terms.z_snk, strength))
        entropy, right = judged(logits_snc, cells.condition.codes[self.field])
        confusion = mean_of_all(entropy).clamp(max=math.log(logits_snc.shape[-1]))
        value = loss.total - strength * confusion
        named = {**loss.terms, "adversary": entropy.detach(), "adversary_accuracy": right}
        return Loss(_with_gradient_of(value, loss.total + entropy), named, loss.per_cell_n)

    def settled(self, progress: Progress) -> bool:
        """Say whether β and the strength have reached their targets."""
        at_target = self.strength(progress.step, progress.n_steps) == self.strength.target
        return at_target and self.bound.settled(progress)


def judged(logits_snc: Tensor, code_n: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy in nats, and the accuracy, over cells whose code is one of the categories.

    Where there is no such cell, both are zero. Of several processes each returns its share of both, over its share of
    the cells, so that the mean over cells is theirs together.
    """
    known_n = code_n < logits_snc.shape[-1]
    logits = logits_snc[:, known_n].flatten(0, 1)
    codes = code_n[known_n].repeat(len(logits_snc))
    n = max(1, count_of_all(len(codes), codes.device)) * share()
    right = (logits.argmax(-1) == codes).sum() / n
    return F.cross_entropy(logits, codes, reduction="sum") / n, right


def _with_gradient_of(value: Tensor, source: Tensor) -> Tensor:
    """Return a value, with the gradient of another one."""
    return source + (value - source).detach()
