"""A trained model, and the folder that it is saved to and opened from."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file

from genevae.data.schema import Schema
from genevae.errors import GenevaeError, RunError
from genevae.models.classifier import Calibration
from genevae.models.reference import Reference
from genevae.models.vae import VAE
from genevae.plotting.training import training_picture
from genevae.recipes.registry import Recipe, recipe_of, require_reproducible
from genevae.runs.manifest import verify_folder, write_folder, write_tensors

__all__ = ["Trained", "facts_of", "files_of", "load_finished", "recipe_in", "save", "versions"]


@dataclass(frozen=True)
class Trained:
    """A trained model, with all that its tasks need besides new cells.

    Parameters
    ----------
    module
        The model.
    recipe, schema
        The recipe with its settings, and the genes and covariates.
    reference
        Posteriors and conditions of some training cells.
    calibration
        For each field, how bounds become probabilities.
    history
        One row per epoch.
    split
        The part that each cell was in: training, validation or test.
    fields
        For each obs column of the data, how many values it had and whether it could be a condition.
    contents
        A hash of the expression of each cell of the split, by which evaluation knows cells again; empty for a run of an
        earlier version.
    facts
        Provenance: seed, versions, fingerprint of the data, how training ended.
    folder
        The folder that it was opened from.
    """

    module: VAE
    recipe: Recipe
    schema: Schema
    reference: Reference
    calibration: dict[str, Calibration]
    history: pd.DataFrame = field(repr=False)
    split: pd.Series[str] = field(repr=False)
    fields: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False, kw_only=True)
    contents: pd.Series[str] = field(default_factory=lambda: pd.Series(dtype=object), repr=False, kw_only=True)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    folder: Path | None = field(default=None, repr=False, kw_only=True)


def save(model: Trained, path: str | Path, overwrite: bool = False) -> None:
    """Write a trained model to a folder, completely or not at all.

    Parameters
    ----------
    model
        What :func:`~genevae.runs.fit.fit` returned.
    path
        The folder: weights and reference cells as safetensors; recipe, schema, calibration and vocabularies (each
        category with its code) as JSON; history, split and fields as CSV; curves of training as a picture; the
        command's settings as TOML; and a manifest with the sha256 of each.
    overwrite
        Whether an existing folder is replaced.

    Raises
    ------
    RecipeError
        If the recipe is not one of the list with other settings, which is all that the folder keeps of it.
    RunError
        If the folder exists, or cannot be written.
    """
    require_reproducible(model.recipe)
    write_folder(Path(path), files_of(model), facts_of(model), overwrite)


def files_of(model: Trained) -> dict[str, Callable[[Path], Any]]:
    """Return a writer for each file of the model's folder."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.module.state_dict().items()}
    vocabularies = {c.name: {label: code for code, label in enumerate(c.labels)} for c in model.schema.categorical}
    reference = {name: tensor.contiguous() for name, tensor in model.reference.to_tensors().items()}
    calibration = {name: c.to_json() for name, c in model.calibration.items()}
    recipe = {"name": model.recipe.name, "settings": model.recipe.settings()}
    return {
        "model.safetensors": lambda file: write_tensors(file, tensors),
        "reference.safetensors": lambda file: write_tensors(file, reference),
        "recipe.json": lambda file: _write_json(file, recipe),
        "schema.json": lambda file: _write_json(file, model.schema.to_json()),
        "calibration.json": lambda file: _write_json(file, calibration),
        "history.csv": lambda file: model.history.to_csv(file, index=False),
        "training.png": lambda file: training_picture(model.history, int(model.facts.get("best_epoch", 0)), file),
        "fields.csv": lambda file: model.fields.to_csv(file, index=False),
        "vocabularies.json": lambda file: _write_json(file, vocabularies),
        "split.csv": lambda file: _split_table(model).to_csv(file, index_label="cell"),
        "config.toml": lambda file: _write_text(file, str(model.facts.get("config", ""))),
    }


def facts_of(model: Trained) -> dict[str, Any]:
    """Return the provenance for the manifest."""
    return {"versions": versions(), **{k: v for k, v in model.facts.items() if k != "config"}}


def load_finished(path: str | Path, device: str = "cpu") -> Trained:
    """Open a model whose training has ended, without its training data and without pickle.

    Parameters
    ----------
    path
        A folder that :func:`save` wrote.
    device
        The device of the model.

    Raises
    ------
    RunError
        If the folder is missing, damaged, or of a version that this one cannot read.
    """
    path = Path(path)
    facts = verify_folder(path)
    try:
        cells = pd.read_csv(path / "split.csv", index_col="cell", dtype=str, keep_default_na=False)
        recipe = recipe_in(path)
        schema = Schema.from_json(_read_json(path / "schema.json"))
        module = recipe.build(schema)
        module.load_state_dict(load_file(path / "model.safetensors"))
        return Trained(
            module.to(device).eval(),
            recipe,
            schema,
            Reference.from_tensors(load_file(path / "reference.safetensors")),
            {name: Calibration.from_json(c) for name, c in _read_json(path / "calibration.json").items()},
            pd.read_csv(path / "history.csv", float_precision="round_trip"),
            cells["part"],
            {**facts, "config": (path / "config.toml").read_text()},
            fields=_read_fields(path / "fields.csv"),
            contents=cells.get("content", pd.Series(dtype=object)),
            folder=path.absolute(),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, GenevaeError) as error:
        made = facts.get("versions", {}).get("genevae", "an unknown version")
        raise RunError(
            f"{path} cannot be opened: {' '.join(str(error).split())} It was written by genevae {made}, and this is "
            f"{version('genevae')}. Its settings can be used to train again: genevae fit --config "
            f"{path / 'config.toml'} --out NEW."
        ) from error


def recipe_in(path: Path) -> Recipe:
    """Return the recipe of a folder, with its settings.

    Raises
    ------
    RecipeError
        If this version has no such recipe or setting.
    RunError
        If the folder is missing.
    """
    try:
        written = _read_json(path / "recipe.json")
    except OSError as error:
        raise RunError(f"{path} is not a folder of a trained model: it has no recipe.json.") from error
    return recipe_of(written["name"], written["settings"])


def _split_table(model: Trained) -> pd.DataFrame:
    """Return the part of each cell, and the hash of its expression where there is one."""
    table = model.split.to_frame("part")
    return table.assign(content=model.contents.to_numpy()) if len(model.contents) else table


def _read_fields(path: Path) -> pd.DataFrame:
    """Read the table, if there is one: older folders have none."""
    written = path.exists() and path.read_text(encoding="utf-8").strip()
    return pd.read_csv(path, float_precision="round_trip") if written else pd.DataFrame()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the bits of a model depend on."""
    packages = ("genevae", "torch", "numpy", "anndata")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _write_json(path: Path, content: Any) -> None:
    _write_text(path, json.dumps(content, indent=1) + "\n")


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
