"""How far a question is from what a model saw in training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.models.reference import Reference
from genevae.models.vae import VAE
from genevae.tasks.condition import Asked

__all__ = ["Support", "Supports", "support_of"]

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


@dataclass
class Supports:
    """The support of each combination of the fields that stay, computed when it is first met."""

    reference: Reference
    asked: Asked

    def __post_init__(self) -> None:
        self._known: dict[tuple[int, ...], Support] = {}

    def score_n(self, module: VAE, cells: Cells) -> Tensor:
        """Return the support of each cell."""
        z_nk = module.posterior(cells).mean
        target = self.asked.put(cells.condition)
        names = list(target.codes)
        score_n = z_nk.new_zeros(cells.n_cells)
        if not names:
            return self._support((), names, z_nk.device).score_n(z_nk)
        combinations, which_n = torch.stack([target.codes[name] for name in names], -1).unique(
            dim=0, return_inverse=True
        )
        for number, combination in enumerate(combinations.tolist()):
            here = which_n == number
            score_n[here] = self._support(tuple(combination), names, z_nk.device).score_n(z_nk[here])
        return score_n

    def _support(self, combination: tuple[int, ...], names: list[str], device: torch.device) -> Support:
        if combination not in self._known:
            complete = dict(zip(names, combination, strict=True))
            self._known[combination] = support_of(self.reference, self.asked, complete, device)
        return self._known[combination]


def _kth_distance(distance_nm: Tensor, itself: int) -> Tensor:
    """Return the distance to the tenth neighbour, or to the last where there are fewer."""
    k = min(N_NEIGHBOURS + itself, distance_nm.shape[1])
    return distance_nm.kthvalue(k, dim=1).values
