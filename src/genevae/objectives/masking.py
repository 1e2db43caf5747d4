"""Masking in training: entries of expression, or categories, that the model does not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from genevae.cells import Cells, Shard
from genevae.nn.sharding import draw

__all__ = ["CategoryDropout", "GeneMask", "mask_genes"]


@dataclass(frozen=True)
class GeneMask:
    """Mask a random share of the entries of each minibatch, so that the posterior does not see them.

    Parameters
    ----------
    low, high
        The share is uniform between these.
    """

    low: float = 0.05
    high: float = 0.25

    @property
    def middle(self) -> float:
        """The mean share of masked entries."""
        return (self.low + self.high) / 2

    def __call__(self, cells: Cells) -> Cells:
        """Mask a share that is drawn for this minibatch."""
        return mask_genes(cells, float(torch.empty(()).uniform_(self.low, self.high)))


def mask_genes(cells: Cells, share: float) -> Cells:
    """Mask each entry with this probability: it is stored as zero, and counts as not measured."""
    x = cells.x
    kept_ng = _uniform((x.n_cells, x.n_genes), x.values.device, cells.shard) >= share
    kept = kept_ng.flatten()[x.flat_e] if x.is_sparse else kept_ng
    measured = cells.condition.measured_ng
    condition = cells.condition.with_measured(kept_ng if measured is None else measured & kept_ng)
    return replace(cells, x=x.map(lambda values: values * kept), condition=condition)


@dataclass(frozen=True)
class CategoryDropout:
    """Replace a random share of the categories by “unknown”, so that the model learns to work without them.

    Parameters
    ----------
    share
        Of the cells, for each field by itself, or by field.
    unknown
        The code that stands for an unknown category of each field.
    """

    share: float | Mapping[str, float]
    unknown: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, cells: Cells) -> Cells:
        """Replace some categories of some cells."""
        share = self.share if isinstance(self.share, Mapping) else dict.fromkeys(self.unknown, self.share)
        codes = {
            name: torch.where(_uniform((cells.n_cells,), known.device, cells.shard) < share[name], code, known)
            for name, code in self.unknown.items()
            for known in (cells.condition.codes[name],)
        }
        return cells.given(cells.condition.replace(codes=codes))


def _uniform(shape: Sequence[int], device: torch.device, shard: Shard | None) -> Tensor:
    return draw(partial(torch.rand, device=device), shape, shard)
