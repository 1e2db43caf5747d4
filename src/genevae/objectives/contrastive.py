"""Contrastive training: the two views of a pair are pulled together, and apart from those of other pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genevae.cells import Cells
from genevae.models.projection import project_pairs
from genevae.models.vae import VAE
from genevae.nn.sharding import all_rows, shard_rows
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.schedules import Schedule

__all__ = ["Contrastive", "info_nce_n", "similarities_nn"]


def similarities_nn(a_nk: Tensor, b_nk: Tensor, temperature: float, group_n: Tensor | None = None) -> Tensor:
    """Return aᵢ · bⱼ / τ; −∞ for different pairs of one group, so that they are no negatives of each other.

    Parameters
    ----------
    a_nk, b_nk
        The two views of each pair: directions of length one.
    temperature
        τ.
    group_n
        The group of each pair; by default all groups differ.
    """
    similarity_nn = a_nk @ b_nk.T / temperature
    if group_n is None:
        return similarity_nn
    related = (group_n[:, None] == group_n).fill_diagonal_(False)
    return similarity_nn.masked_fill(related, -torch.inf)


def info_nce_n(similarity_nn: Tensor) -> Tensor:
    """Return −½ · (log softmax_j(s)ᵢᵢ + log softmax_i(s)ᵢᵢ) of each pair i: symmetric InfoNCE, in nats.

    It is log n where all similarities are equal.

    References
    ----------
    van den Oord, Li and Vinyals, arXiv:1807.03748 (2018); Radford et al., ICML (2021), for both directions.
    """
    pair_n = torch.arange(len(similarity_nn), device=similarity_nn.device)
    there, back = (F.cross_entropy(s, pair_n, reduction="none") for s in (similarity_nn, similarity_nn.T))
    return (there + back) / 2


class Contrastive(Objective):
    """−ELBO + weight · InfoNCE between the two rows of each pair, compared through the model's projection.

    Rows 2i and 2i + 1 of a minibatch are a pair. Their views are the posterior draws that the bound is computed from,
    so that they also differ by masking, dropout and the draw.

    Parameters
    ----------
    elbo
        The bound.
    group
        The field whose categories make pairs; other pairs of the same group are no negatives of a pair.
    unknown
        The code of rows without a group.
    weight
        Of InfoNCE, in nats per pair, beside the bound's nats per cell.
    temperature
        What similarities, from −1 to 1, are divided by.
    frozen
        Whether pairs train only the projection, and the posterior learns from the bound alone.
    fixed
        Whether the posterior is used as it is, without dropout, as that of a trained model; masks remain.
    """

    def __init__(
        self,
        elbo: ELBO,
        group: str,
        unknown: int,
        weight: float = 1.0,
        temperature: float = 0.07,
        frozen: bool = False,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        self.elbo = elbo
        self.group, self.unknown = group, unknown
        self.weight, self.temperature, self.frozen, self.fixed = weight, temperature, frozen, fixed

    @property
    def beta(self) -> Schedule:
        """The weight of the KL term."""
        return self.elbo.beta

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss, in nats per cell; ``retrieval`` is the share of pairs whose views are nearest."""
        if self.fixed:
            model.fix_posterior()
        terms = self.elbo.terms(model, cells)
        bound = self.elbo.weigh(terms, progress)
        similarity_nn = self._compare(model, terms.z_snk[0], cells)
        nce_n = info_nce_n(similarity_nn)
        first = similarity_nn.argmax(1) == torch.arange(len(nce_n), device=nce_n.device)
        nce_n, first = shard_rows(nce_n, cells.shard), shard_rows(first, cells.shard)
        named = {**bound.terms, "contrastive": nce_n.mean().detach(), "retrieval": first.float().mean()}
        if not self.training:
            named |= self.elbo.validation_terms(model, cells, terms)
        per_cell_n = bound.per_cell_n + self.weight * nce_n.detach().repeat_interleave(2)
        return Loss(bound.total + self.weight * nce_n.mean(), named, per_cell_n)

    def settled(self, progress: Progress) -> bool:
        """Whether β has reached its target."""
        return self.elbo.settled(progress)

    def _compare(self, model: VAE, z_nk: Tensor, cells: Cells) -> Tensor:
        if model.projection is None:
            raise TypeError("this model was not built to compare cells: it has no projection")
        z_nk = z_nk.detach() if self.frozen else z_nk
        projected_nk = all_rows(project_pairs(model.projection, z_nk, cells.shard), cells.shard)
        group_n = all_rows(cells.condition.codes[self.group], cells.shard)[::2]
        unique_n = -1 - torch.arange(len(group_n), device=group_n.device)  # a pair without a group is its own group
        group_n = torch.where(group_n == self.unknown, unique_n, group_n)
        return similarities_nn(projected_nk[::2], projected_nk[1::2], self.temperature, group_n)
