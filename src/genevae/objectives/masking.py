"""What is hidden from a model while it trains: genes of a cell, or its categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.nn.sharding import drawn

__all__ = ["CategoryDropout", "GeneMask", "hide_genes"]


@dataclass(frozen=True)
class GeneMask:
    """Hide a share of the entries of a minibatch from the posterior, drawn anew each time.

    Parameters
    ----------
    low, high
        The share is uniform between these.
    """

    low: float = 0.05
    high: float = 0.25

    @property
    def middle(self) -> float:
        """The share that is hidden on average."""
        return (self.low + self.high) / 2

    def __call__(self, cells: Cells) -> Cells:
        """Hide a share that is drawn for this minibatch."""
        return hide_genes(cells, float(torch.empty(()).uniform_(self.low, self.high)))


def hide_genes(cells: Cells, share: float) -> Cells:
    """Hide each entry with this probability: it is stored as zero, and counts as not measured."""
    x = cells.x
    kept_ng = _uniform((x.n_cells, x.n_genes), x.values.device) >= share
    kept = kept_ng.flatten()[x.flat_e] if x.is_sparse else kept_ng
    measured = cells.condition.measured_ng
    condition = cells.condition.with_measured(kept_ng if measured is None else measured & kept_ng)
    return replace(cells, x=x.map(lambda values: values * kept), condition=condition)


@dataclass(frozen=True)
class CategoryDropout:
    """Call a category unknown now and then, so that the model learns to do without it.

    Parameters
    ----------
    share
        Of the cells, for each field by itself.
    unknown
        The code that stands for an unknown category of each field.
    """

    share: float
    unknown: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, cells: Cells) -> Cells:
        """Forget some categories of some cells."""
        codes = {
            name: torch.where(_uniform((cells.n_cells,), known.device) < self.share, code, known)
            for name, code in self.unknown.items()
            for known in (cells.condition.codes[name],)
        }
        return cells.given(cells.condition.replace(codes=codes))


def _uniform(shape: Sequence[int], device: torch.device) -> Tensor:
    return drawn(partial(torch.rand, device=device), shape)
