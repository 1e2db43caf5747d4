"""Models side by side, and the cells that they are evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from genevae.data.contents import hashes_in
from genevae.data.value_kind import Kind
from genevae.evaluation.adapters import as_evaluated
from genevae.evaluation.model import EvaluatedModel

__all__ = [
    "LABEL_NAMES",
    "PARTS",
    "EvaluationContext",
    "named_parts",
    "part_codes",
    "part_codes_by_content",
    "parts_of",
]

Part = NDArray[np.bool_]

PARTS = ("training", "validation", "test", "new")
"""The parts that a cell can have in a model's training, from what has shaped the model most to what it has not seen."""
NEW = PARTS.index("new")
_AT_ONCE = 2**16

LABEL_NAMES = ("type", "label", "cluster", "tissue")
"""Parts of the names of fields that say what a cell is."""


@dataclass(frozen=True)
class EvaluationContext:
    """What every section of a report is computed from.

    Parameters
    ----------
    given
        The models, by name: of this package, of scvi-tools, or any that follow the protocol.
    cells
        The cells, with the genes of all models, in memory: a sample with a seed where there were more.
    kind
        What the numbers in ``cells.X`` are.
    seed
        Of all random choices.
    fields
        Categorical columns of obs.
    n_left_out
        Cells of the data that were not sampled.
    gene_sets
        A GMT file of gene sets that similar genes are compared with, where one was given.
    parts
        The part that each cell had in each model's training; by default that of the cell of the same name.
    """

    given: Mapping[str, Any]
    cells: AnnData
    kind: Kind
    seed: int = 0
    fields: Sequence[str] = ()
    n_left_out: int = 0
    gene_sets: Path | None = None
    parts: Mapping[str, pd.Series[Any]] = field(default_factory=dict)

    @cached_property
    def models(self) -> dict[str, EvaluatedModel]:
        """The models as evaluation sees them."""
        return {name: as_evaluated(model) for name, model in self.given.items()}

    def having(self, verb: str) -> dict[str, EvaluatedModel]:
        """Return the models that have a verb."""
        return {name: model for name, model in self.models.items() if getattr(model, verb) is not None}

    def lacking(self, verb: str) -> list[str]:
        """Say of each model that lacks a verb that it is left out, for the notes of a section."""
        return [
            f"{name} has no {verb}, and is left out."
            for name in self.models
            if getattr(self.models[name], verb) is None
        ]

    @property
    def label_field(self) -> str:
        """The first field of the data that says what cells are, and is no condition of a model; empty without one."""
        given = {name for model in self.models.values() for name in model.schema.fields}
        named = (name for name in self.fields if any(part in name.lower() for part in LABEL_NAMES))
        return next((str(name) for name in named if name not in given), "")

    def part_n(self, name: str) -> pd.Series[Any]:
        """Return the part that each cell had in a model's training: training, validation or test; or new."""
        return self.parts[name] if name in self.parts else parts_of(self.models[name], self.cells.obs_names)

    @cached_property
    def trained_n(self) -> Part:
        """Which cells any model was trained on."""
        return self._any("training")

    @cached_property
    def evaluation_n(self) -> Part:
        """Which cells are fair to evaluate on: new or test cells; without such, those that chose the best weights."""
        unseen = ~self.trained_n
        fair = unseen & ~self._any("validation")
        return fair if fair.any() else unseen

    @property
    def evaluation_note(self) -> str:
        """Say which cells these are, for the notes of a section."""
        parts = {part for name in self.models for part in self.part_n(name)[self.evaluation_n]}
        n = int(self.evaluation_n.sum())
        if not n:
            return "Every cell was a training cell of some model: none is left for evaluation."
        if parts == {"validation"}:
            return f"{n:,} cells that were not trained on, but chose the best epoch."
        return f"{n:,} cells that no run was trained on ({', '.join(sorted(parts))})."

    def _any(self, part: str) -> Part:
        return np.asarray(np.any([(self.part_n(name) == part).to_numpy() for name in self.models], axis=0))


def parts_of(model: EvaluatedModel, names: pd.Index[Any]) -> pd.Series[Any]:
    """Return the part that each cell had in a model's training, by name: training, validation or test; or new."""
    return named_parts(part_codes(model, names), names)


def named_parts(code_n: NDArray[np.int8], names: pd.Index[Any]) -> pd.Series[Any]:
    """Return parts by the name of the cell."""
    return pd.Series(np.array(PARTS, dtype=object)[code_n], index=names, dtype=object)


def part_codes(model: EvaluatedModel, names: pd.Index[Any]) -> NDArray[np.int8]:
    """Return the place in ``PARTS`` of the part that each cell had in a model's training, by name."""
    return _lookup(_codes(model.split), model.split.index, names)


def part_codes_by_content(
    model: EvaluatedModel, names: pd.Index[Any], hash_n: NDArray[np.uint64]
) -> tuple[NDArray[np.int8], bool]:
    """Return the part that each cell had in a model's training, by its expression, and whether names mean nothing.

    A cell whose expression is that of a training cell is this cell, whatever its name is. A cell that only has the name
    of a training cell counts as that cell too (its values may have been edited), unless most cells with such names have
    another expression: then the names coincide, as 0, 1, 2 do, and mean nothing.

    Parameters
    ----------
    model
        With ``contents``.
    names, hash_n
        The name and the hash of the expression of each cell.
    """
    known_k = hashes_in(model.contents)
    is_known_k = known_k > 0
    code_n = _lookup(_codes(model.split)[is_known_k], pd.Index(known_k[is_known_k]), pd.Index(hash_n))
    first = ~model.contents.index.duplicated()
    comparable = _lookup(~is_known_k[first], model.contents.index[first], names, missing=1) == 0
    comparable &= hash_n > 0
    named = code_n == NEW
    other = comparable & named
    coincide = bool(other.sum() > comparable.sum() / 2)
    if coincide:
        named &= ~other
    code_n[named] = part_codes(model, names)[named]
    return code_n, coincide


def _codes(part: pd.Series[Any]) -> NDArray[np.int8]:
    code_k = pd.Categorical(part, categories=PARTS).codes
    return np.where(code_k < 0, NEW, code_k).astype(np.int8)


def _lookup(code_k: NDArray[Any], known: pd.Index[Any], keys: pd.Index[Any], missing: int = NEW) -> NDArray[np.int8]:
    """Return the code of each key; of several, the smallest: training before validation, and that before test.

    Keys are looked up in blocks, because a place takes eight times as much memory as a code.
    """
    if not known.is_unique:
        order = np.argsort(code_k, kind="stable")
        order = order[~known[order].duplicated()]
        code_k, known = code_k[order], known[order]
    code_of = np.append(code_k, missing).astype(np.int8)  # the last is that of a key that is not known
    found = np.empty(len(keys), dtype=np.int8)
    for at in range(0, len(keys), _AT_ONCE):
        found[at : at + _AT_ONCE] = code_of[known.get_indexer(keys[at : at + _AT_ONCE])]
    return found
