"""Adversarial batch correction: a discriminator predicts the batch from the latent, and the posterior prevents it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from genevae.cells import Cells, Shard
from genevae.models.vae import VAE
from genevae.nn.mlp import MLP, LayerStyle
from genevae.nn.reversal import reverse_gradient
from genevae.nn.sharding import all_count, all_mean
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
        Categories of the field.
    """

    def __init__(self, n_latent: int, hidden: Sequence[int], n_categories: int) -> None:
        super().__init__()
        style = LayerStyle(lambda _: nn.Identity(), nn.LeakyReLU, dropout=0.0)
        self.trunk = MLP(n_latent, hidden, style)
        self.logits = nn.Linear(self.trunk.n_out, n_categories)

    def forward(self, z: Tensor, shard: Shard | None = None) -> Tensor:
        """Map ``(…, n, k)`` to ``(…, n, c)``."""
        logits: Tensor = self.logits(self.trunk(z, shard))
        return logits


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
        The categorical condition that the latent should not contain.
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
        logits_snc = self.discriminator(reverse_gradient(terms.z_snk, strength), cells.shard)
        entropy, accuracy = classification(logits_snc, cells.condition.codes[self.field], cells.shard)
        confusion = all_mean(entropy, cells.shard).clamp(max=math.log(logits_snc.shape[-1]))
        value = loss.total - strength * confusion
        named = {**loss.terms, "adversary": entropy.detach(), "adversary_accuracy": accuracy}
        if not self.training:
            named |= self.bound.validation_terms(model, cells, terms)
        return Loss(_with_gradient_of(value, loss.total + entropy), named, loss.per_cell_n)

    def settled(self, progress: Progress) -> bool:
        """Whether β and the strength have reached their targets."""
        at_target = self.strength(progress.step, progress.n_steps) == self.strength.target
        return at_target and self.bound.settled(progress)


def classification(logits_snc: Tensor, code_n: Tensor, shard: Shard | None = None) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy in nats, and the accuracy, over cells whose code is one of the categories.

    Without such a cell both are zero. With several processes, the mean of their numbers, weighted by cells, is the
    number of the whole minibatch.
    """
    known_n = code_n < logits_snc.shape[-1]
    logits = logits_snc[:, known_n].flatten(0, 1)
    codes = code_n[known_n].repeat(len(logits_snc))
    n = max(1, all_count(len(codes), codes.device, shard)) * (1.0 if shard is None else shard.share)
    accuracy = (logits.argmax(-1) == codes).sum() / n
    return F.cross_entropy(logits, codes, reduction="sum") / n, accuracy


def _with_gradient_of(value: Tensor, source: Tensor) -> Tensor:
    """Return a value with the gradient of another."""
    return source + (value - source).detach()
