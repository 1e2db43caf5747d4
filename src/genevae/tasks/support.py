"""How well the training cells support a prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.data.schema import Categorical
from genevae.errors import shorten, warn
from genevae.models.reference import Reference
from genevae.models.vae import VAE
from genevae.tasks.condition import TargetCondition
from genevae.tasks.inference import TrainedModel

__all__ = ["Support", "SupportByCombination", "note_never_seen", "seen_categories", "support_of"]

N_NEIGHBOURS = 10
MAX_CELLS = 2_000


@dataclass(frozen=True)
class Support:
    """The training cells closest to a target condition, and the typical distance between them.

    Parameters
    ----------
    cells_mk
        Latent means of the training cells in the target combination. If there are none: of the training cells that
        agree in most covariates.
    typical_distance_m
        Distance from each of them to its tenth neighbour among them, ascending.
    agreement
        Share of the covariates in which these training cells agree with the target.
    """

    cells_mk: Tensor
    typical_distance_m: Tensor
    agreement: float

    def score_n(self, z_nk: Tensor) -> Tensor:
        """Return the support of each cell, from 0 to 1.

        support = agreement × share of the training cells whose tenth neighbour is at least as far away as the cell's.
        It is near one where the cell lies among training cells, and near zero where no training cell is similar.
        """
        distance_n = _kth_distance(torch.cdist(z_nk, self.cells_mk), n_self=0)
        closer_n = torch.searchsorted(self.typical_distance_m, distance_n)
        return self.agreement * (1 - closer_n / len(self.typical_distance_m))


def support_of(reference: Reference, target: TargetCondition, codes: dict[str, int], device: torch.device) -> Support:
    """Find the training cells that support one combination of categories.

    Parameters
    ----------
    reference
        The training cells that the model keeps.
    target
        The covariates that were set.
    codes
        Codes of all categorical covariates, set or not.
    device
        The device of the cells to score.
    """
    rows = reference.nearest_rows(codes or dict(target.codes))
    agreement = reference.agreement_n(codes)[rows[0]].item() / len(codes) if codes else 1.0
    cells_mk = reference.mean_nk[rows[:: max(1, len(rows) // MAX_CELLS)]].to(device)
    distance_m = _kth_distance(torch.cdist(cells_mk, cells_mk), n_self=1).sort().values
    return Support(cells_mk, distance_m, agreement)


def seen_categories(model: TrainedModel, name: str) -> set[str]:
    """Return the categories of a field that training cells have, as far as the model keeps them."""
    field = model.schema.categorical_field(name)
    code_n = model.reference.condition.codes.get(name)
    found = set() if code_n is None else {field.labels[code] for code in code_n.unique().tolist()}
    profiles = None if model.responses is None else model.responses.profiles
    if profiles is not None and name in profiles.fields:
        found |= {key[profiles.fields.index(name)] for key in profiles.keys}
    return found


def note_never_seen(model: TrainedModel, condition: Mapping[str, object]) -> list[str]:
    """Return the fields whose category is known by its vector alone, and warn that no training cell has it."""
    found = []
    for name in condition:
        field = model.schema[name]
        if not isinstance(field, Categorical) or field.embedding is None:
            continue
        wanted, seen = field.labels[field.code(condition[name])], seen_categories(model, name)
        if wanted in seen:
            continue
        found.append(name)
        vectors = model.schema.vectors_by_category[name]
        off = {one: math.dist(vectors[one], vectors[wanted]) for one in sorted(vectors.keys() & seen)}
        warn(
            f"No training cell has '{name}' = '{wanted}': the answer rests on its vector, which is nearest to those of "
            f"{shorten(sorted(off, key=lambda one: off[one])[:3])}."
        )
    return found


@dataclass
class SupportByCombination:
    """The support of each combination of categories, computed when it first occurs.

    It is zero where a category that is set was seen in no training cell.
    """

    reference: Reference
    target: TargetCondition
    never_seen: bool = False

    def __post_init__(self) -> None:
        self._known: dict[tuple[int, ...], Support] = {}

    def score_n(self, module: VAE, cells: Cells) -> Tensor:
        """Return the support of each cell."""
        z_nk = module.posterior(cells).mean
        condition = self.target.apply(cells.condition)
        names = list(condition.codes)
        score_n = z_nk.new_zeros(cells.n_cells)
        if self.never_seen:
            return score_n
        if not names:
            return self._support((), names, z_nk.device).score_n(z_nk)
        combinations, combination_n = torch.stack([condition.codes[name] for name in names], -1).unique(
            dim=0, return_inverse=True
        )
        for number, combination in enumerate(combinations.tolist()):
            members_n = combination_n == number
            score_n[members_n] = self._support(tuple(combination), names, z_nk.device).score_n(z_nk[members_n])
        return score_n

    def _support(self, combination: tuple[int, ...], names: list[str], device: torch.device) -> Support:
        if combination not in self._known:
            codes = dict(zip(names, combination, strict=True))
            self._known[combination] = support_of(self.reference, self.target, codes, device)
        return self._known[combination]


def _kth_distance(distance_nm: Tensor, n_self: int) -> Tensor:
    """Return the distance to the tenth neighbour, or to the last one if there are fewer."""
    k = min(N_NEIGHBOURS + n_self, distance_nm.shape[1])
    return distance_nm.kthvalue(k, dim=1).values
