"""A trained model, and the folder that it is saved to and opened from."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from genevae.calls import public
from genevae.data.schema import Schema
from genevae.errors import DataError, RunError, shorten, warn
from genevae.io.bounded import read_json
from genevae.labelling.labels import Labels
from genevae.models.classifier import Calibration
from genevae.models.correction import Correction
from genevae.models.reference import Reference
from genevae.models.vae import VAE
from genevae.peer_functions import COMPOSED, composed
from genevae.peers import LOSSES, METHOD_ALIASES, alias, peer_name
from genevae.plotting.training import training_picture
from genevae.recipes.registry import Recipe, recipe_of, require_reproducible
from genevae.responses.answer import Responses
from genevae.runs.device import resolve_device
from genevae.runs.labels import LABELS, labels_files, labels_in
from genevae.runs.manifest import tensor_shapes, verify_folder, write_folder, write_tensors
from genevae.runs.response_files import RESPONSES, responses_files, responses_in
from genevae.tasks.methods import TaskMethods

NEEDED = (
    "model.safetensors", "reference.safetensors", "recipe.json", "schema.json", "calibration.json", "history.csv",
    "split.csv", "config.toml",
)  # fmt: skip
"""Files that every trained model has."""
CORRECTION = "correction.safetensors"
"""The file of the correction, which models with two batches or more have."""
EXACT: dict[str, Any] = (
    {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
)
"""What lets pandas read every float exactly; it does so by default since 3.1."""
MAX_LAYERS, MAX_COLUMNS = 1000, 1000
"""Of hidden layers, and of columns in a table of the run."""

__all__ = ["Trained", "facts_of", "files_of", "load_finished", "recipe_in", "save", "versions"]


class _Class(type):
    """The class of :class:`Trained`, which answers the class methods of other packages."""

    def __getattr__(cls, name: str) -> Any:
        hint = "" if name.startswith("_") else f" {peer_name(name, dir(cls), 'model')}"
        raise AttributeError(f"A trained model of genevae has no '{name}'.{hint}")


class _Losses(pd.DataFrame):  # type: ignore[misc]  # pandas has no types
    """A history, whose columns have the names of other packages too."""

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key in LOSSES and key not in self.columns:
            warn(f"The column {key} of a history is {LOSSES[key]} here.")
            key = LOSSES[key]
        return super().__getitem__(key)


@dataclass(frozen=True)
class Trained(TaskMethods, metaclass=_Class):
    """A trained model, with all that its tasks need besides new cells.

    Every task is a method too: ``model.embed(adata)`` is ``gv.embed(model, adata)``. They are ``classify``,
    ``cluster``, ``contributions``, ``counterfactual``, ``denoise``, ``dose_response``, ``effect``, ``embed``,
    ``evaluate``, ``gene_embeddings``, ``generate`` and ``influence``.

    Parameters
    ----------
    module
        The model.
    recipe
        The recipe with its settings.
    schema
        The genes, the kind of values and the covariates.
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
    responses
        Profiles of the training cells in every state, and what models predicted for states that they were trained
        without; None where the model has no conditions, or is of an earlier version.
    labels
        Label models of the fields that are labels; None where there are none, or the model is of an earlier version.
    correction
        What removes the rest of the technical batch from the latent; None where there are no two batches, or the model
        is of an earlier version.
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
    history: pd.DataFrame
    split: pd.Series[str]
    fields: pd.DataFrame = field(default_factory=pd.DataFrame, kw_only=True)
    contents: pd.Series[str] = field(default_factory=lambda: pd.Series(dtype=object), kw_only=True)
    facts: dict[str, Any] = field(default_factory=dict)
    responses: Responses | None = field(default=None, kw_only=True)
    labels: Labels | None = field(default=None, kw_only=True)
    correction: Correction | None = field(default=None, kw_only=True)
    folder: Path | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Give the history the names that other packages have for its columns."""
        object.__setattr__(self, "history", _Losses(self.history))

    @public
    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the model to a folder; see :func:`save`."""
        save(self, path, overwrite)

    @staticmethod
    def load(*arguments: Any, **options: Any) -> Trained:
        """Open the folder of a run; see :func:`~genevae.runs.load.load`."""
        import genevae  # because opening a checkpoint trains

        return genevae.load(*arguments, **options)

    def get_latent_representation(self, adata: Any = None, **options: Any) -> Any:
        """Return the means of the latent as an array, cells × latent; the name is that of scvi-tools."""
        return self.embed(*([] if adata is None else [adata]), **options).obsm["X_genevae"]

    def get_normalized_expression(
        self, adata: Any = None, transform_batch: str | None = None, gene_list: Sequence[str] | None = None,
        library_size: float | str = 1.0, **options: Any,
    ) -> Any:  # fmt: skip
        """Return the expected expression as a table, cells × genes, in one batch if one is given; as in scvi-tools.

        Counts of each cell sum to ``library_size``, or to the cell's own size ("latent"). Of the table, the columns of
        ``gene_list`` are returned; all by default.
        """
        given = [] if adata is None else [adata]
        if transform_batch is None:
            table = self.denoise(*given, **options).to_df()
        else:
            table = COMPOSED["correct"][1](self, *given, batch=transform_batch, **options).to_df()
        if self.schema.output_kind.is_count and library_size != "latent":
            table = table.div(table.sum(axis=1), axis=0).mul(float(library_size))
        return table if gene_list is None else table[list(gene_list)]

    def map_query(self, data: Any, **options: Any) -> Any:
        """Map new cells to the model; see :func:`~genevae.runs.mapping.map_query`."""
        import genevae  # its public function, which makes a trained model

        return genevae.map_query(self, data, **options)

    def evaluate(self, data: Any, **options: Any) -> Any:
        """Evaluate the model beside baselines; see :func:`~genevae.evaluation.evaluate.evaluate`."""
        import genevae  # its public function, because runs know nothing of evaluation

        return genevae.evaluate(self, data, **options)

    def explore(self, data: Any = None, **options: Any) -> Any:
        """Write a page that runs the decoder in a browser; see :func:`~genevae.explorer.explore.explore`."""
        import genevae  # its public function, because runs know nothing of pages

        return genevae.explore(self, data, **options)

    def __getattr__(self, name: str) -> Any:
        if (ours := alias(name, METHOD_ALIASES, "model")) is not None:
            return getattr(self, ours)
        if (function := composed(name, "model")) is not None:
            return partial(function, self)
        known = [each for each in (*dir(type(self)), *self.__dataclass_fields__) if not each.startswith("_")]
        hint = "" if name.startswith("_") else f" {peer_name(name, known, 'model')}"
        raise AttributeError(f"A trained model of genevae has no '{name}'.{hint}")

    def __repr__(self) -> str:
        width = max(map(len, self._summary()))
        return "\n".join(f"{title:<{width}}  {text}" for title, text in self._summary().items())

    def _repr_html_(self) -> str:
        rows = (f"<tr><th style='text-align:left'>{escape(t)}</th><td style='text-align:left'>{escape(text)}</td></tr>"
                for t, text in self._summary().items())  # fmt: skip
        return f"<table>{''.join(rows)}</table>"

    def _summary(self) -> dict[str, str]:
        """Return what a reader wants to know first, by title."""
        schema = self.schema
        cells = ", ".join(f"{n:,} {part}" for part, n in self.parts.items())
        given = [f"{c.name} ({len(c.categories)}: {shorten(c.categories, 3)})" for c in schema.categorical]
        given += [f"{c.name} (a number)" for c in schema.continuous]
        best = int(self.facts.get("best_epoch", 0))
        losses = self.history.get("validation_loss", pd.Series(dtype=float))
        loss = f"; validation loss {losses.iloc[best - 1]:,.4g} in epoch {best}" if 0 < best <= len(losses) else ""
        return {
            "genevae": f"{self.recipe.name}: {len(schema.genes):,} genes, "
            f"{self.reference.mean_nk.shape[1]} latent dimensions",
            "data": f"{self.facts.get('data', 'unknown')}: {schema.kind}; {cells} cells",
            "given": ", ".join(given) or "expression alone",
            "trained": f"{len(self.history)} epochs{loss}",
            "folder": str(self.folder) if self.folder else "not saved: model.save(PATH)",
            "tasks": ", ".join(sorted(name for name in vars(TaskMethods) if not name.startswith("_"))),
        }

    @property
    def parts(self) -> dict[str, int]:
        """The number of cells that it was trained, validated and tested on; a shared model keeps no more of them."""
        counts = dict(self.split.value_counts()) or dict(self.facts.get("parts", {}))
        return {part: int(counts[part]) for part in ("training", "validation", "test") if part in counts}

    @property
    def integrates(self) -> bool:
        """Whether the recipe removes the technical batch from the latent, so that embeddings are corrected."""
        return self.recipe.objective.integrates


@public
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
    correction = {} if model.correction is None else model.correction.to_tensors()
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
        **({CORRECTION: lambda file: write_tensors(file, correction)} if correction else {}),
        **(responses_files(model.responses) if model.responses is not None else {}),
        **(labels_files(model.labels) if model.labels is not None else {}),
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
    RecipeError
        If there is no such device here.
    RunError
        If the folder is missing, damaged, or of a version that this one cannot read.
    """
    path, on = Path(path), resolve_device(device)
    facts = verify_folder(path, needed=NEEDED)
    try:
        cells = pd.read_csv(path / "split.csv", index_col="cell", dtype=str, keep_default_na=False)
        recipe = recipe_in(path)
        schema = Schema.from_json(read_json(path / "schema.json"))
        _require_shapes(recipe, schema, tensor_shapes(path / "model.safetensors"))
        module = recipe.build(schema)
        module.load_state_dict(load_file(path / "model.safetensors"))
        reference = _matching(schema, Reference.from_tensors(load_file(path / "reference.safetensors")))
        n_latent = reference.mean_nk.shape[1]
        calibration = _calibrations(schema, read_json(path / "calibration.json"))
        return Trained(
            module.to(on).eval(),
            recipe,
            schema,
            reference,
            calibration,
            _read_table(path / "history.csv"),
            cells["part"],
            {**facts, "config": (path / "config.toml").read_text()},
            fields=_fields_in(path) if "fields.csv" in facts["sha256"] else pd.DataFrame(),
            contents=cells.get("content", pd.Series(dtype=object)),
            correction=_correction_in(path, schema, n_latent) if CORRECTION in facts["sha256"] else None,
            responses=responses_in(path, schema, n_latent) if RESPONSES in facts["sha256"] else None,
            labels=labels_in(path, schema, calibration) if LABELS in facts["sha256"] else None,
            folder=path.absolute(),
        )
    except Exception as error:  # whatever another version, or somebody, has written
        versions_then = facts.get("versions")
        made = versions_then.get("genevae") if isinstance(versions_then, dict) else "an unknown version"
        reason = " ".join((str(error) or type(error).__name__).split())[:1000].rstrip(".") + "."
        raise RunError(
            f"{path} cannot be opened: {reason} It was written by genevae {made}, and this is "
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
    if not (path / "recipe.json").is_file():
        raise RunError(f"{path} is not a folder of a trained model: it has no recipe.json.")
    try:
        written = read_json(path / "recipe.json")
        return recipe_of(written["name"], written["settings"])
    except (DataError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise RunError(f"{path / 'recipe.json'} is damaged: {error}. Copy the folder again.") from error


def _split_table(model: Trained) -> pd.DataFrame:
    """Return the part of each cell, and the hash of its expression where there is one."""
    table = model.split.to_frame("part")
    return table.assign(content=model.contents.to_numpy()) if len(model.contents) else table


def _require_shapes(recipe: Recipe, schema: Schema, stored: dict[str, tuple[int, ...]]) -> None:
    """Check that recipe and schema describe the stored weights, before memory is taken for them."""
    if len(recipe.settings().get("hidden", ())) > MAX_LAYERS:
        raise ValueError(f"The recipe has more than {MAX_LAYERS} hidden layers.")
    with torch.device("meta"):
        built = {name: tuple(tensor.shape) for name, tensor in recipe.build(schema).state_dict().items()}
    wrong = sorted(name for name in built.keys() | stored.keys() if built.get(name) != stored.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"model.safetensors does not fit recipe.json and schema.json: {name} has the shape "
            f"{stored.get(name, 'of none')}, and should have {built.get(name, 'none')}."
        )


def _matching(schema: Schema, reference: Reference) -> Reference:
    """Return reference cells after checking them against the schema."""
    condition, n = reference.condition, reference.n_cells
    columns = [reference.scale_nk, condition.size_n1, *condition.codes.values(), *condition.values.values()]
    if reference.clusters is not None:
        columns.append(reference.clusters.cluster_n)
        if any(each.n_genes != len(schema.genes) for each in reference.clusters.marginals):
            raise ValueError("reference.safetensors has clusters of other genes than schema.json.")
    if any(len(column) != n for column in columns) or reference.mean_nk.shape != reference.scale_nk.shape:
        raise ValueError("reference.safetensors has columns of several lengths.")
    fields = [*schema.categorical, *(each for each in (schema.group, schema.view) if each)]
    for name, n_codes in ((each.name, each.n_codes) for each in fields):
        code_n = condition.codes.get(name)
        if code_n is not None and n and not 0 <= int(code_n.min()) <= int(code_n.max()) < n_codes:
            raise ValueError(f"reference.safetensors has codes of '{name}' that schema.json has not.")
    return reference


def _calibrations(schema: Schema, content: dict[str, Any]) -> dict[str, Calibration]:
    """Restore the calibration of each field after checking it against the schema."""
    found = {name: Calibration.from_json(each) for name, each in content.items()}
    for name, calibration in found.items():
        codes, n = calibration.code_c, len(schema.categorical_field(name).labels)
        if len(codes) != len(calibration.log_prior_c) or not all(isinstance(c, int) and 0 <= c < n for c in codes):
            raise ValueError(f"calibration.json has codes of '{name}' that schema.json has not.")
        if not calibration.temperature > 0:
            raise ValueError(f"calibration.json has the temperature {calibration.temperature} for '{name}'.")
    return found


def _correction_in(path: Path, schema: Schema, n_latent: int) -> Correction:
    """Read the correction after checking it against the schema."""
    if schema.batch is None:
        raise ValueError(f"{CORRECTION} corrects for a technical batch, and schema.json has none.")
    return Correction.from_tensors(load_file(path / CORRECTION), schema.n_categories[schema.batch], n_latent)


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table of few columns; an empty file is an empty table."""
    with path.open(encoding="utf-8") as file:
        head = file.readline(2**20)
    if head.count(",") > MAX_COLUMNS:
        raise ValueError(f"{path.name} has more than {MAX_COLUMNS} columns.")
    return pd.read_csv(path, **EXACT) if head.strip() else pd.DataFrame()


def _fields_in(path: Path) -> pd.DataFrame:
    """Read what each obs column was; older runs have other titles."""
    return _read_table(path / "fields.csv").rename(columns={"used": "using", "non_null": "non_null_fraction"})


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the bits of a model depend on."""
    packages = ("genevae", "torch", "numpy", "anndata")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _write_json(path: Path, content: Any) -> None:
    _write_text(path, json.dumps(content, indent=1) + "\n")


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
