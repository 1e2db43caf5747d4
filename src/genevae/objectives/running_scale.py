"""Running averages over training steps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from genevae.cells import Cells, Shard
from genevae.nn.heads import AdditiveHeads
from genevae.nn.sharding import all_mean, all_sum

__all__ = ["Influence", "RunningScale"]

SMALLEST = 1e-12


class RunningScale(nn.Module):
    """Divide a term by the running mean of its magnitude, so that its units do not matter.

    The divisor stays above a share of the highest that it has been: a term that
    is solved is not weighted as much as those that are not.

    Parameters
    ----------
    memory
        Weight of the past: 0.99 averages over about a hundred steps. Before there were as many, over all.
    solved
        That share.
    """

    scale: Tensor
    highest: Tensor
    n_seen: Tensor

    def __init__(self, memory: float = 0.99, solved: float = 0.1) -> None:
        super().__init__()
        self.memory, self.solved = memory, solved
        self.register_buffer("highest", torch.zeros(()))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("n_seen", torch.zeros(()))

    def forward(self, term_n: Tensor, shard: Shard | None = None) -> Tensor:
        """Update the running mean with the term's mean over cells, and return the term over it."""
        with torch.no_grad():
            self.n_seen += 1
            weight = (1 / self.n_seen).clamp(min=1 - self.memory)
            self.scale.lerp_(all_mean(term_n.mean(), shard).abs(), weight)
            self.highest = torch.maximum(self.highest, self.scale)
        return term_n / torch.maximum(self.scale, self.solved * self.highest).clamp(min=SMALLEST)


class Influence(nn.Module):
    """The L2 norm of what the base, each field and each category add, over that of the prediction, of recent cells.

    Parameters
    ----------
    categories
        The categories of each field.
    memory
        Weight of the past.

    Notes
    -----
    Norms need no expression: ‖D h‖² = hᵀ (Dᵀ D) h. A category is measured in its own cells.
    """

    base_and_total: Tensor

    def __init__(self, categories: Mapping[str, tuple[str, ...]], memory: float = 0.99) -> None:
        super().__init__()
        self.categories = dict(categories)
        self.memory = memory
        self.register_buffer("base_and_total", torch.zeros(2), persistent=False)
        for at, names in enumerate(self.categories.values()):
            self.register_buffer(f"added_{at}_c", torch.zeros(len(names)), persistent=False)
            self.register_buffer(f"total_{at}_c", torch.zeros(len(names)), persistent=False)

    @torch.no_grad()
    def forward(self, heads: AdditiveHeads, y_nk: Tensor, gram_kk: Tensor, cells: Cells) -> dict[str, Tensor]:
        """Update the influence with some cells, and return it by name.

        Parameters
        ----------
        heads
            The heads.
        y_nk
            Last hidden units: see :meth:`~genevae.nn.heads.AdditiveHeads.decode_hidden`.
        gram_kk
            Dᵀ D, of the last layer.
        cells
            Their categories are those that the cells are decoded with.
        """
        total_n = (y_nk @ gram_kk * y_nk).sum(-1)
        parts = y_nk.split(heads.widths, -1)
        places = torch.arange(len(gram_kk), device=gram_kk.device).split(heads.widths)
        base, at_base = parts[0], places[0]
        added_n = (base @ gram_kk[at_base][:, at_base] * base).sum(-1)
        sums = all_sum(torch.stack([added_n.sum(), total_n.sum()]), cells.shard)
        self.base_and_total.mul_(self.memory).add_(sums)
        named = {"influence base": _ratio(*self.base_and_total)}
        for at, (field, names) in enumerate(self.categories.items()):
            h, place = parts[at + 1], places[at + 1]
            added_n = (h @ gram_kk[place][:, place] * h).sum(-1)
            added_c = self._update(f"added_{at}_c", field, added_n, cells)
            total_c = self._update(f"total_{at}_c", field, total_n, cells)
            named[f"influence {field}"] = _ratio(added_c.sum(), total_c.sum())
            each = _ratio(added_c, total_c)
            named |= {f"influence {field}={name}": each[c] for c, name in enumerate(names)}
        return named

    def _update(self, name: str, field: str, energy_n: Tensor, cells: Cells) -> Tensor:
        """Add up energies by category, without unknown ones."""
        known = self.get_buffer(name)
        sums = energy_n.new_zeros(len(known) + 1).index_add_(0, cells.condition.codes[field], energy_n)[:-1]
        return known.mul_(self.memory).add_(all_sum(sums, cells.shard))


def _ratio(added: Tensor, total: Tensor) -> Tensor:
    return (added.clamp(min=0) / total.clamp(min=SMALLEST)).sqrt()
