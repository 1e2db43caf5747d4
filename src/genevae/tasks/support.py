"""How far a question is from what a model saw in training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genevae.models.reference import Reference
from genevae.tasks.ask import Asked

__all__ = ["Support", "support_of"]

N_NEIGHBOURS = 10
MAX_CELLS = 2_000


@dataclass(frozen=True)
class Support:
    """The training cells that are nearest to what is asked, and how close cells usually are to them.

    Parameters
    ----------
    cells_mk
        Latent means of training cells under the asked combination or, where none was seen, under those that agree in
        most of the asked fields.
    usual_m
        Distance of each to its own tenth neighbour among them, ascending.
    agreement
        Share of the asked fields in which those training cells agree.
    """

    cells_mk: Tensor
    usual_m: Tensor
    agreement: float

    def score_n(self, z_nk: Tensor) -> Tensor:
        """Return the support of each cell, from 0 to 1.

        support = agreement × share of training cells that are at least as far from their neighbours: near one where
        the cell lies among cells that were seen so, near zero where none is like it.
        """
        distance_n = _kth_distance(torch.cdist(z_nk, self.cells_mk), 0)
        closer_n = torch.searchsorted(self.usual_m, distance_n)
        return self.agreement * (1 - closer_n / len(self.usual_m))


def support_of(reference: Reference, asked: Asked, complete: dict[str, int], device: torch.device) -> Support:
    """Find the training cells that support one combination of fields.

    Parameters
    ----------
    reference
        What the model remembers.
    asked
        The fields that are set.
    complete
        The codes of all categorical fields, set and not.
    device
        Where the cells will be.
    """
    rows = reference.nearest_rows(complete or dict(asked.codes))
    agreement = reference.agreement_n(complete)[rows[0]].item() / len(complete) if complete else 1.0
    cells_mk = reference.mean_nk[rows[:: max(1, len(rows) // MAX_CELLS)]].to(device)
    usual_m = _kth_distance(torch.cdist(cells_mk, cells_mk), 1).sort().values
    return Support(cells_mk, usual_m, agreement)


def _kth_distance(distance_nm: Tensor, itself: int) -> Tensor:
    """Return the distance to the tenth neighbour, or to the last where there are fewer."""
    k = min(N_NEIGHBOURS + itself, distance_nm.shape[1])
    return distance_nm.kthvalue(k, dim=1).values
