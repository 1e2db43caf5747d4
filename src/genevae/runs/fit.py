"""Fit a recipe to data."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genevae.errors import RecipeError, nearest
from genevae.io.formats import ReadOptions
from genevae.io.source import Source
from genevae.preprocessing.obs_summary import field_specifications
from genevae.recipes import Recipe, recipe_class, recipe_name
from genevae.runs.config import write_config
from genevae.runs.every import Every
from genevae.runs.folder import Run
from genevae.runs.prepare import Prepared, prepare
from genevae.runs.provenance import provenance
from genevae.runs.reference import calibrate, reference_posteriors
from genevae.runs.trained import Trained, versions
from genevae.training.autocast import compiled
from genevae.training.callbacks import NoCheckpoints
from genevae.training.history import Log
from genevae.training.launch_env import launched
from genevae.training.loop import train
from genevae.training.settings import default_epochs
from genevae.training.world import World, device_of, join

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["fit", "fit_in", "resolve_device"]

OF_RECIPE = ("epochs", "batch_size", "n_latent", "hidden", "learning_rate", "accumulate", "precision")
"""Arguments that stand in place of a recipe's settings."""
NOT_KEPT = ("data", "recipe", "setting", "device", "out", "overwrite", "logs", "progress", *OF_RECIPE)
"""Arguments that the config file has no use for, or has in its table of settings."""


def fit(
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    recipe: str | Recipe = "nb",
    condition: Sequence[str] = (),
    continuous: Sequence[str] = (),
    batch: str | None = None,
    control: Mapping[str, str] | None = None,
    combine: Sequence[str] = (),
    group: str | None = None,
    genes: int | str | Path | Sequence[str] | None = None,
    layer: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    n_latent: int | None = None,
    hidden: Sequence[int] | None = None,
    learning_rate: float | None = None,
    accumulate: int | None = None,
    precision: str | None = None,
    setting: Mapping[str, Any] | None = None,
    validation: float = 0.1,
    test: float = 0.0,
    stratify: str | None = None,
    split_by: str | None = None,
    hold_out: Mapping[str, str] | None = None,
    balance: str | None = None,
    seed: int = 0,
    device: str = "auto",
    compile: bool = False,  # noqa: A002 - the word that everybody knows
    checkpoint_every: int | str | None = None,
    keep_checkpoints: int = 2,
    out: str | Path | None = None,
    overwrite: bool = False,
    logs: Sequence[Log] = (),
    progress: bool = True,
) -> Trained:
    """Train a model of these data.

    Parameters
    ----------
    data
        A file, a folder or a pattern of files of any known format; an AnnData object; or Files, a path with more words
        on how to read it.
    recipe
        The method; `genevae recipes` lists them.
    condition
        Categorical obs columns that the model is given, such as cell type or perturbation.
    continuous
        Numeric obs columns that the model is given, such as a dose.
    batch
        The obs column of the technical batch; the model is given it too.
    control
        The reference level of a condition, as FIELD=VALUE.
    combine
        Conditions whose categories may be combinations: A+B is then the sum of A and B, also where no cell has it.
    group
        The obs column that makes two cells a pair, for recipes that compare pairs; the model is not given it.
    genes
        Genes to model: the number of highly variable ones, or a file with one name per line; all by default. Ensembl
        ids match with or without their version, and symbols where the data have them.
    layer
        The layer that holds the expression, or "raw"; X by default.
    epochs
        Passes over the training cells at most; by default 400, and fewer beyond 20,000 cells.
    batch_size
        Cells in one step, in place of the recipe's own number.
    n_latent
        Latent dimensions, in place of the recipe's own number.
    hidden
        Width of each hidden layer, as in 512,256, in place of the recipe's own.
    learning_rate
        Of Adam, in place of the recipe's own.
    accumulate
        Minibatches whose gradients are added up for one step, where as many cells do not fit at once.
    precision
        float32, bf16 or fp16: what the layers between expression and distributions compute with. Weights,
        distributions and losses are float32 whatever it is.
    setting
        Any other setting of the recipe, as NAME=VALUE.
    validation
        Share of the cells that is not trained on and chooses the best weights.
    test
        Share of the cells that is kept away from training altogether; split.csv names them.
    stratify
        An obs column whose proportions are kept in every part.
    split_by
        An obs column, such as the donor, none of whose groups may be in two parts.
    hold_out
        Keep away from training all cells with this combination, as FIELD=VALUE.
    balance
        An obs column whose categories are drawn equally often in training.
    seed
        Of the split, the initial weights, the order of cells and the noise. Same seed, same bits.
    device
        auto, cpu, cuda or mps.
    compile
        Whether to compile the layers; where that cannot be, one line says so, and training goes on without.
    checkpoint_every
        Keep the state of training every so many steps (500), minutes (10m) or epochs (2e), and when the process is
        asked to end (SIGTERM, SIGUSR1); the run can then be resumed, to the same bits.
    keep_checkpoints
        How many such states are kept: the last.
    out
        The folder that the model is saved to; needed for checkpoints.
    overwrite
        Whether a folder that is there already is replaced.
    logs
        Who is told of every epoch.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Trained
        The model with its best weights, and all that its tasks need.

    Raises
    ------
    DataError
        If the data cannot be opened, or lack a column or genes that were asked for.
    RecipeError
        If the recipe or a setting is unknown, or the recipe cannot describe such data.
    RunError
        If ``out`` is there already, in use, or cannot be written.
    TrainingError
        If the loss stays not finite.
    TrainingPaused
        If the process was asked to end, and the state of training is kept.

    Examples
    --------
    >>> import numpy as np, anndata as ad, genevae as gv
    >>> counts = np.random.default_rng(0).poisson(2.0, (60, 20)).astype("float32")
    >>> model = gv.fit(ad.AnnData(counts), epochs=2, progress=False)
    >>> gv.embed(model, ad.AnnData(counts)).obsm["X_genevae"].shape
    (60, 10)
    """
    given = dict(locals())
    chosen = _choose_recipe(recipe, given, setting or {})
    if out is None and checkpoint_every is not None:
        raise RecipeError('Checkpoints need a folder to be in: say which with out, as in out="run".')
    if keep_checkpoints < 1:
        raise RecipeError(f"keep_checkpoints must be 1 or more, not {keep_checkpoints}.")
    every = None if checkpoint_every is None else Every.read(checkpoint_every)
    run = None if out is None else Run(Path(out), overwrite, every, keep_checkpoints)
    return fit_in(run, data, chosen, given)


def fit_in(
    run: Run | None, data: AnnData | Source | ReadOptions | str | Path, recipe: Recipe, given: Mapping[str, Any]
) -> Trained:
    """Hold the folder of a run, if there is one, prepare, train and save.

    Parameters
    ----------
    run
        The folder, which may be half-way.
    data, recipe, given
        The data, the recipe as it is to be, and all other arguments of :func:`fit` by name.
    """
    started = time.perf_counter()
    name, launch = recipe_name(recipe), launched(os.environ)
    device = device_of(launch, resolve_device(given["device"]))
    ranks = join(launch, device)
    with ExitStack() as stack:
        if run:
            run.ranks = ranks
            stack.enter_context(run.held())
        prepared = prepare(data, recipe, given)
        config = write_config({**_place(data), "recipe": name, **_config(given), "setting": recipe.to_json()})
        facts = {
            "versions": versions(),
            "seed": given["seed"],
            "device": str(device),
            "data": prepared.source.name,
            "fingerprint": prepared.fingerprint,
            "fingerprint_of_covariates": prepared.fingerprint_of_covariates,
            **provenance(),
        }
        ranks.require_alike("data", f"{prepared.fingerprint} {prepared.fingerprint_of_covariates}")
        config, facts = run.begin(config, facts) if run else (config, facts)
        checkpoints = stack.enter_context(run.checkpoints()) if run else NoCheckpoints()
        logs = [*([run.log] if run else []), *given["logs"]]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(given["seed"])
            model = _train(prepared, recipe, given, device, ranks, checkpoints, logs, {**facts, "config": config})
        model.facts["seconds"] = round(time.perf_counter() - started, 3)
        if run:
            run.finish(model)
    return model


def _train(
    prepared: Prepared,
    recipe: Recipe,
    given: Mapping[str, Any],
    device: torch.device,
    ranks: World,
    checkpoints: NoCheckpoints,
    logs: Sequence[Log],
    facts: dict[str, Any],
) -> Trained:
    """Build, train, and learn what depends on the final weights."""
    schema = prepared.schema
    loaders = prepared.loaders(recipe, given["balance"], given["seed"])
    n_epochs = recipe.epochs or default_epochs(loaders.training.sampler.n_cells)
    objective = recipe.objective(schema, n_epochs).to(device)
    module = recipe.build(schema).to(device)
    if module.size is not None:
        module.size.fit(loaders.reference)
    with compiled((module, objective), device, given["compile"]):
        history = train(
            module, objective, loaders.training, loaders.validation, recipe,
            device=device, progress=given["progress"], ranks=ranks, logs=logs, checkpoints=checkpoints,
        )  # fmt: skip
    return Trained(
        module.eval(),
        recipe,
        schema,
        reference_posteriors(module, loaders.reference, device),
        calibrate(module, loaders.training, loaders.calibration, device),
        history.to_frame(),
        prepared.parts(),
        {**facts, "best_epoch": history.best_epoch + 1, "ended": history.ended},
        fields=field_specifications(prepared.source.obs),
    )


def resolve_device(name: str) -> torch.device:
    """Choose where to compute.

    Raises
    ------
    RecipeError
        If there is no such device here.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    kind = name.split(":", maxsplit=1)[0]
    if not present.get(kind, False):
        raise RecipeError(f"There is no device '{name}' here. {nearest(name, [k for k in present if present[k]])}")
    return torch.device(name)


def _choose_recipe(recipe: str | Recipe, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Recipe:
    chosen = recipe_class(recipe)() if isinstance(recipe, str) else recipe
    overrides = {name: given[name] for name in OF_RECIPE if given.get(name) is not None}
    return chosen.edit({**settings, **overrides})


def _config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the config file keeps of the arguments; the recipe's own settings stand in its table."""
    kept = {name: value for name, value in given.items() if name not in NOT_KEPT and value is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def _place(data: object) -> dict[str, Any]:
    """Return what the config file keeps of where the data are and how they were read."""
    if isinstance(data, ReadOptions):
        words = {name: str(word) if isinstance(word, Path) else word for name, word in asdict(data).items()}
        return {"data": words.pop("path"), **words}
    return {"data": str(data) if isinstance(data, str | Path) else None}
