"""What a run keeps to predict labels: how it is fitted when training has ended, and its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Schema
from genevae.io.bounded import read_json
from genevae.labelling.labels import Labels
from genevae.models.classifier import Calibration
from genevae.runs.manifest import write_tensors
from genevae.runs.reference import Scored
from genevae.tasks.classify import labels_of, logged_cells
from genevae.tasks.response import evenly_spaced

__all__ = ["LABELS", "LABEL_NAMES", "fit_labels", "labels_files", "labels_in"]

LABELS, LABEL_NAMES = "labels.safetensors", "labels.json"
MAX_CELLS, MAX_NUMBERS = 10_000, 50_000_000
"""Training cells at most, and training cells × genes."""
MAX_VALIDATION = 4_000
"""Validation cells that the bound is weighed on."""
MAX_CATEGORIES = 100
"""Fields with more are left to the bound alone."""
LEAST_CELLS = 20
"""Training cells with a label, at least."""


def fit_labels(
    training: Loader,
    rows: NDArray[np.int64],
    calibrated: Mapping[str, tuple[Calibration, Scored]],
    summed: str | None = None,
) -> Labels | None:
    """Fit a label model for every field that is a label: neither a batch, nor a perturbation.

    Parameters
    ----------
    training
        A loader of the data.
    rows
        Training cells, some of which are used.
    calibrated
        For each field its calibration, and the bounds of validation cells.
    summed
        The field whose missing labels the model sums over, if there is one.
    """
    schema = training.schema
    n_genes = len(schema.genes)
    rows = evenly_spaced(rows, min(MAX_CELLS, max(LEAST_CELLS, MAX_NUMBERS // n_genes)))
    cells = training.over(InOrder(rows, 512))
    codes = {
        field.name: _places(cells.codes(field.name).numpy(), calibrated[field.name][0])
        for field in schema.categorical
        if field.name in calibrated and _is_label(schema, field.name)
        and len(calibrated[field.name][0].code_c) <= MAX_CATEGORIES
    }  # fmt: skip
    codes = {name: n for name, n in codes.items() if (n >= 0).sum() >= LEAST_CELLS and len(np.unique(n[n >= 0])) > 1}
    if not codes:
        return None
    names = {name: labels_of(schema, name, calibrated[name][0]) for name in codes}
    labels = Labels.fit(*_expression(cells), codes, names)
    for name in codes:
        calibration, scored = calibrated[name]
        some = slice(0, MAX_VALIDATION)
        if len(scored.row_n):
            order = np.argsort(scored.row_n[some])
            row_n, place_n = scored.row_n[some][order], scored.place_n[some][order]
            bound_nc = calibration.probability_nc(torch.from_numpy(scored.score_nc[some][order])).log().numpy()
            cells = training.over(InOrder(row_n, 512))
            labels = labels.with_bound(name, *_expression(cells), bound_nc, place_n, summed=name == summed)
    return labels


def _is_label(schema: Schema, name: str) -> bool:
    field = schema.categorical_field(name)
    return not (field.technical or field.control is not None or field.combined)


def _places(code_n: NDArray[np.int64], calibration: Calibration) -> NDArray[np.int64]:
    """Return the place of each code among those that are predicted, −1 for others."""
    place = {code: at for at, code in enumerate(calibration.code_c)}
    return np.array([place.get(code, -1) for code in code_n.tolist()], dtype=np.int64)


def _expression(cells: Loader) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Read expression on a log scale, and which of it was measured."""
    found = [logged_cells(cells.schema, minibatch) for minibatch in cells]
    measured = [each for _, each in found if each is not None]
    return np.concatenate([x_ng for x_ng, _ in found]), np.concatenate(measured) if measured else None


def labels_files(labels: Labels) -> dict[str, Callable[[Path], Any]]:
    """Return a writer for each file: numbers as safetensors, and the labels as JSON."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in labels.to_arrays().items()}
    return {
        LABELS: lambda file: write_tensors(file, tensors),
        LABEL_NAMES: lambda file: file.write_text(json.dumps(labels.to_json(), indent=1) + "\n", encoding="utf-8"),
    }


def labels_in(folder: Path, schema: Schema, calibration: Mapping[str, Calibration]) -> Labels:
    """Read the label models of a run.

    Parameters
    ----------
    folder
        The run.
    schema, calibration
        Its genes, and the labels of each field.

    Raises
    ------
    ValueError
        If they do not fit the schema.
    """
    content = {str(name): list(map(str, labels)) for name, labels in read_json(folder / LABEL_NAMES).items()}
    for name, categories in content.items():
        if name not in calibration or categories != labels_of(schema, name, calibration[name]):
            raise ValueError(f"{LABEL_NAMES} has other labels of '{name}' than calibration.json and schema.json.")
    try:
        labels = Labels.restore(content, load_file(folder / LABELS))
    except (ValueError, np.linalg.LinAlgError) as error:
        raise ValueError(f"{LABELS} is not valid: {error}.") from error
    if len(labels.mean_g) != len(schema.genes):
        raise ValueError(f"{LABELS} has {len(labels.mean_g)} genes, and schema.json {len(schema.genes)}.")
    return labels
