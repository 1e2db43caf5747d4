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
            self.register_buffer(f"added_and_total_{at}_c2", torch.zeros(len(names), 2), persistent=False)

    @torch.no_grad()
    def forward(
        self, heads: AdditiveHeads, y_nk: Tensor, y_onto_nk: Tensor, gram_kk: Tensor, cells: Cells
    ) -> dict[str, Tensor]:
        """Update the influence with some cells, and return it by name.

        Parameters
        ----------
        heads
            The heads.
        y_nk
            Last hidden units: see :meth:`~genevae.nn.heads.AdditiveHeads.decode_hidden`.
        y_onto_nk, gram_kk
            y Dᵀ D, and Dᵀ D, of the last layer.
        cells
            Their categories are those that the cells are decoded with.
        """
        total_n = (y_onto_nk * y_nk).sum(-1)
        blocks = [rows.split(heads.widths, -1)[at] for at, rows in enumerate(gram_kk.split(heads.widths))]
        base_n, *each_n = (
            (h @ block * h).sum(-1) for h, block in zip(y_nk.split(heads.widths, -1), blocks, strict=True)
        )
        sums = all_sum(torch.stack([base_n.sum(), total_n.sum()]), cells.shard)
        self.base_and_total.mul_(self.memory).add_(sums)
        named = {"influence base": _ratio(*self.base_and_total)}
        for at, ((field, names), added_n) in enumerate(zip(self.categories.items(), each_n, strict=True)):
            added_and_total_c2 = self._update(at, field, torch.stack([added_n, total_n], -1), cells)
            named[f"influence {field}"] = _ratio(*added_and_total_c2.sum(0))
            each_c = _ratio(*added_and_total_c2.unbind(-1)).unbind()
            named |= {f"influence {field}={name}": each for name, each in zip(names, each_c, strict=True)}
        return named

    def _update(self, at: int, field: str, energy_n2: Tensor, cells: Cells) -> Tensor:
        """Add up energies by category, without unknown ones."""
        known = self.get_buffer(f"added_and_total_{at}_c2")
        sums = energy_n2.new_zeros(len(known) + 1, 2).index_add_(0, cells.condition.codes[field], energy_n2)[:-1]
        return known.mul_(self.memory).add_(all_sum(sums, cells.shard))


def _ratio(added: Tensor, total: Tensor) -> Tensor:
    return (added.clamp(min=0) / total.clamp(min=SMALLEST)).sqrt()
