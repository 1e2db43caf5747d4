"""Fit a recipe to data."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union
from weakref import ref

import torch
from numpy.typing import ArrayLike

from genevae.calls import public
from genevae.data.loader import Loader
from genevae.data.split import Split
from genevae.errors import DataError, RecipeError, warn
from genevae.io.arrays import from_arrays, is_array
from genevae.io.formats import ReadOptions
from genevae.io.source import Source
from genevae.models.principal import start_from_components
from genevae.models.vae import VAE
from genevae.preprocessing.obs_summary import field_specifications
from genevae.recipes.registry import Recipe, recipe_named, require_reproducible
from genevae.responses.answer import Responses
from genevae.runs.config import Covariates, Expression, FitConfig, RunOptions, SplitOptions, assignments, listed
from genevae.runs.config_file import write_config
from genevae.runs.device import resolve_device
from genevae.runs.folder import RunFolder
from genevae.runs.labels import fit_labels
from genevae.runs.prepare import Loaders, Prepared, prepare
from genevae.runs.pretrained import recipe_like, transfer_weights
from genevae.runs.provenance import provenance
from genevae.runs.reference import calibrate, correction_of, reference_posteriors
from genevae.runs.responses import fit_responses
from genevae.runs.signals import INTERRUPT, NAMES, STOPPED, StopOnSignal, StopRequest, stop_signals
from genevae.runs.trained import Trained, versions
from genevae.tasks.task import TRAINED_ON
from genevae.training.autocast import compiled
from genevae.training.callbacks import Callback
from genevae.training.graph import Recorder, recorder_on
from genevae.training.history import History
from genevae.training.launch_env import launched
from genevae.training.loop import train
from genevae.training.progress import ProgressBar
from genevae.training.world import World, device_of, join

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["fit", "fit_in"]

FOLD_EPOCHS = 3
"""Models without some states are trained for a third of the epochs."""

Data: TypeAlias = Union["AnnData", Source, ReadOptions, str, Path]
"""What holds cells: an object, a path, or a path with options."""


@public
def fit(
    data: Data,
    recipe: str | Recipe | None = None,
    *,
    labels: ArrayLike | Mapping[str, ArrayLike] | None = None,
    factor: float | None = None,
    condition: str | Sequence[str] = (),
    continuous: str | Sequence[str] = (),
    batch: str | Sequence[str] | None = None,
    control: Mapping[str, str] | str | None = None,
    combine: str | Sequence[str] = (),
    context: str | Sequence[str] = (),
    group: str | None = None,
    view: str | None = None,
    unlabelled: str | None = None,
    embedding: Mapping[str, Any] | str | None = None,
    genes: int | str | Path | Sequence[str] | None = None,
    gene_filter: str | Path | None = None,
    layer: str | None = None,
    gene_sets: str | Path | Mapping[str, Sequence[str]] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    n_latent: int | None = None,
    hidden: int | Sequence[int] | None = None,
    learning_rate: float | None = None,
    accumulate: int | None = None,
    precision: str | None = None,
    setting: Mapping[str, Any] | None = None,
    validation: float = 0.1,
    test: float = 0.0,
    stratify: str | None = None,
    split_by: str | None = None,
    hold_out: Mapping[str, str] | str | None = None,
    balance: str | None = None,
    folds: int | None = None,
    from_run: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    compile: bool = False,  # noqa: A002 - torch's name
    cuda_graphs: bool = False,
    checkpoint_every: int | str | None = None,
    keep_checkpoints: int = 2,
    read_threads: int = 1,
    out: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Trained:
    """Train a model of these data.

    Parameters
    ----------
    data
        A file, a folder or a pattern of files of any known format; an AnnData object; an array of cells × genes; or
        ReadOptions, a path with options.
    recipe
        The method; `genevae recipes` lists them. By default nb, or that of ``from_run``.
    labels
        The obs column of the labels, the first of the conditions; cells without one are for recipe semi. Or, with an
        array of cells × genes: a label per cell, which becomes the condition ``label``, or columns by name; see
        :func:`genevae.from_arrays`.
    factor
        With an array of counts that were scaled, such as to 0–1: what they are multiplied by to be counts again.
    condition
        Categorical obs columns that the model is given, such as cell type or perturbation.
    continuous
        Numeric obs columns that the model is given, such as a dose.
    batch
        The obs column of the technical batch, which the model is given too; of several, the others are conditions.
    control
        The reference level of a condition, as FIELD=VALUE; the value alone where there is one condition.
    combine
        Conditions whose categories may be combinations: A+B is then the sum of A and B, also where no cell has it.
    context
        Obs columns, such as cell type, whose categories respond each in its way. The model is not given them; their
        mean expression in every condition is kept, and counterfactuals and effects use it. Conditions are contexts too.
    group
        The obs column whose categories make pairs of cells, for recipes that compare pairs; the model is not given it.
    view
        An obs column of two categories, such as pseudobulk and cell type: a pair of a group then has one cell of each,
        and each has a projection of its own.
    unlabelled
        The value of a condition in cells without a label, besides missing values and "unknown"; for recipes that take
        such cells.
    embedding
        Vectors of the categories of a condition, as FIELD=FILE: .csv, .tsv or .parquet with the names in the first
        column, or .npy with a .txt of names. In Python also a table, or vectors by name. The model knows a category by
        its vector, so that counterfactuals answer for categories that only the file has. Needs no row of the control.
    genes
        Genes to model: the number of highly variable ones, names, a file with one name per line, or the column of var
        that marks them in an AnnData in memory, such as "highly_variable"; all by default.
        Ensembl ids match with or without their version, and symbols where the data have them.
    gene_filter
        A GTF file, whose protein-coding genes are kept, or a list of genes, of which the data may lack some; the
        genes to model are chosen among those.
    layer
        The layer that holds the expression, or "raw"; X by default.
    gene_sets
        The gene sets of recipe programs: a GMT file, or the genes of each set by its name. Those with at least five of
        the genes to model are dimensions of the latent.
    epochs
        Passes over the training cells at most; by default 30 from 1,000 to 4,000 training cells, more below, fewer
        above.
    batch_size
        Cells in one step; by default as in the recipe.
    n_latent
        Latent dimensions; by default as in the recipe.
    hidden
        Width of each hidden layer, as in 512,256; by default as in the recipe.
    learning_rate
        Of Adam; by default as in the recipe.
    accumulate
        Minibatches whose gradients are added up for one step, where a larger minibatch does not fit in memory.
    precision
        float32, bf16 or fp16: what the layers between expression and distributions compute with. Weights,
        distributions and losses are always float32.
    setting
        Any other setting of the recipe, as NAME=VALUE.
    validation
        Share of the cells that is not trained on and chooses the best weights.
    test
        Share of the cells that is kept out of training altogether; split.csv names them.
    stratify
        An obs column whose proportions are kept in every part.
    split_by
        An obs column, such as the donor; no group of it is in two parts.
    hold_out
        Keep all cells with this combination out of training, as FIELD=VALUE.
    balance
        An obs column whose categories are drawn equally often in training.
    folds
        How many more models are trained, each without a part of the perturbed states and for a third of the epochs. How
        well they predict these states decides how much counterfactuals and effects use the model; with 0 they use
        simple methods alone. By default 3 where a condition has a control level and its effects differ in context.
    from_run
        The folder of a trained model to start from: its weights where name and shape fit, with genes matched by name,
        and its recipe and settings unless others are given.
    seed
        Of the split, the initial weights, the order of cells and the noise. Same seed, same bits.
    device
        auto, cpu, cuda or mps.
    compile
        Whether to compile the layers; where that fails, one line says so, and training continues without.
    cuda_graphs
        Record a step on an NVIDIA GPU and replay it, which saves the time that Python takes for small steps. It is
        first compared with a usual step; where they differ, or where it cannot be recorded, a warning says so, and
        training continues as usual.
    checkpoint_every
        Save the state of training every so many steps (500), minutes (10m) or epochs (2e), and when a signal stops the
        process (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1); the run can then be resumed, to the same bits. Without, training
        ends at a signal with the best weights so far, which are saved.
    keep_checkpoints
        How many checkpoints are kept, the latest.
    read_threads
        Threads that read from disk, each a buffer of 16,384 cells; they change no result.
    out
        The folder that the model is saved to; needed for checkpoints.
    overwrite
        Whether a folder that is there already is replaced.
    callbacks
        What takes part in training; see :class:`~genevae.training.callbacks.Callback`.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Trained
        The model with its best weights, and all that its tasks need.

    Raises
    ------
    DataError
        If the data cannot be opened, or lack a column or genes that were named.
    RecipeError
        If the recipe or a setting is unknown, or the recipe cannot describe such data.
    RunError
        If ``out`` is there already, in use, or cannot be written.
    TrainingError
        If the loss stays not finite.
    TrainingPaused
        If a signal stopped the process, and the state of training is saved.

    Examples
    --------
    >>> import numpy as np, anndata as ad, genevae as gv
    >>> counts = np.random.default_rng(0).poisson(2.0, (60, 20)).astype("float32")
    >>> model = gv.fit(ad.AnnData(counts), epochs=2, progress=False)
    >>> gv.embed(model, ad.AnnData(counts)).obsm["X_genevae"].shape
    (60, 10)
    """
    given = data
    if len(listed(batch)) > 1:
        batch, *others = listed(batch)
        warn(f"batch is one obs column, {batch}: {', '.join(others)} are given to the model as conditions.")
        condition = (*listed(condition), *others)
    if isinstance(labels, str):
        condition, labels = tuple(dict.fromkeys([labels, *listed(condition)])), None
    if labels is not None or factor is not None:
        data, condition = _labelled(data, labels, condition, factor)
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "n_latent": n_latent,
        "hidden": hidden,
        "learning_rate": learning_rate,
        "accumulate": accumulate,
        "precision": precision,
    }
    config = FitConfig(
        recipe=_with_settings(
            _chosen(recipe, from_run), {name: value for name, value in settings.items() if value is not None}, setting
        ),
        covariates=Covariates(
            condition=condition,
            continuous=continuous,
            batch=batch,
            control=assignments("control", control, listed(condition)),
            combine=combine,
            context=context,
            group=group,
            view=view,
            unlabelled=unlabelled,
            embedding=assignments("embedding", embedding, listed(condition)),
        ),
        expression=Expression(genes=genes, gene_filter=gene_filter, layer=layer, gene_sets=gene_sets),
        split=SplitOptions(
            validation=validation,
            test=test,
            stratify=stratify,
            split_by=split_by,
            hold_out=assignments("hold_out", hold_out),
            balance=balance,
        ),
        run=RunOptions(
            folds=folds,
            from_run=from_run,
            seed=seed,
            device=device,
            compile=compile,
            cuda_graphs=cuda_graphs,
            checkpoint_every=checkpoint_every,
            keep_checkpoints=keep_checkpoints,
            read_threads=read_threads,
        ),
    )
    if out is None and checkpoint_every is not None:
        raise RecipeError('Checkpoints need a folder: give one with out, as in out="run".')
    read = (genes, gene_sets, gene_filter, from_run, *(config.covariates.embedding or {}).values())
    reads = (data, *(each for each in read if isinstance(each, str | Path)))
    folder = None if out is None else RunFolder.of(Path(out), config.run, overwrite, reads=reads)
    model = fit_in(folder, data, config, callbacks, progress)
    if hasattr(given, "obs_names"):
        TRAINED_ON[model.module] = ref(given)
    return model


def fit_in(
    folder: RunFolder | None,
    data: Data,
    config: FitConfig,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Trained:
    """Lock the folder of a run, if there is one, prepare, train and save.

    Parameters
    ----------
    folder
        The folder, which may hold an unfinished run.
    data, config
        The data, and all other options.
    callbacks, progress
        As for :func:`fit`.
    """
    started = time.perf_counter()
    launch = launched(os.environ)
    device = device_of(launch, resolve_device(config.run.device))
    world = join(launch, device)
    with ExitStack() as stack:
        if folder:
            require_reproducible(config.recipe)
            folder.world = world
            stack.enter_context(folder.locked())

        # Open the data, split the cells, choose the genes.
        prepared = prepare(data, config)
        world.require_same("data", f"{prepared.fingerprint} {prepared.fingerprint_of_covariates}")
        kept = {name: value for name, value in config.to_flat().items() if value is not None}
        facts = {**_facts(prepared, config, device), "config": write_config({**_location(data), **kept})}
        if folder:
            facts = folder.begin(facts)

        # Train, with the random numbers of the seed; the caller's are restored.
        stop = stack.enter_context(stop_signals(NAMES if folder else [INTERRUPT]))
        everyone = [*([ProgressBar()] if progress else []), *([folder.log] if folder else []), *callbacks]
        everyone.append(folder.on_signal(stop) if folder else StopOnSignal(stop))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(config.run.seed)
            start = None if folder and folder.resumes else config.run.from_run
            model = _train(prepared, config, device, world, everyone, facts, start, progress, stop)
        model.facts["seconds"] = round(time.perf_counter() - started, 3)
        if folder:
            folder.finish(model)
    if stop.signal is not None:
        _say_stopped(stop.signal, model, folder)
    return model


def _say_stopped(name: str, model: Trained, folder: RunFolder | None) -> None:
    """Say what is kept and how to continue; a signal other than Ctrl-C then has its usual effect."""
    if launched(os.environ).is_first:
        text = (
            f"genevae: training was {STOPPED}{name}, and ends with the best weights so far, those of epoch "
            f"{model.facts['best_epoch']}."
        )
        if not str(model.facts["ended"]).startswith(STOPPED):
            text = (
                f"genevae: training is done. {name} stopped what follows: the model is complete, but models without "
                "some states may be missing, and counterfactuals and effects then use it less."
            )
        elif folder is not None:
            text += f" Continue from them with the same options: genevae fit DATA --from {folder.path} --out NEW"
        print(text, file=sys.stderr)  # noqa: T201 - also in a notebook
    if name != INTERRUPT:
        signal.raise_signal(getattr(signal, name))


def _train(
    prepared: Prepared,
    config: FitConfig,
    device: torch.device,
    world: World,
    callbacks: Sequence[Callback],
    facts: dict[str, Any],
    from_run: str | Path | None,
    progress: bool,
    stop: StopRequest,
) -> Trained:
    """Build, train, and compute what depends on the final weights."""
    recipe, schema = config.recipe, prepared.schema
    loaders = prepared.loaders(config, device)
    recorder = recorder_on(device) if config.run.cuda_graphs else Recorder()
    arguments = (device, world, recorder)
    module, history, transferred = _optimised(prepared, config, loaders, *arguments, callbacks, from_run)
    if transferred is not None:
        facts = {**facts, "from": transferred}
    module.eval()
    reference = reference_posteriors(module, loaders.reference, device)
    calibrated = calibrate(module, loaders.training, loaders.calibration, device, progress and world.is_first)
    return Trained(
        module,
        recipe,
        schema,
        reference,
        {name: calibration for name, (calibration, _) in calibrated.items()},
        history.to_frame(),
        prepared.parts(),
        {**facts, "best_epoch": history.best_epoch + 1, "ended": history.ended},
        fields=field_specifications(prepared.source.obs),
        contents=prepared.contents(),
        labels=fit_labels(loaders.training, loaders.reference.sampler.rows, calibrated, module.label_field),
        correction=correction_of(reference, schema),
        responses=_responses(module, history.ended, loaders, prepared, config, *arguments, stop, progress),
    )


def _optimised(
    prepared: Prepared,
    config: FitConfig,
    loaders: Loaders,
    device: torch.device,
    world: World,
    recorder: Recorder,
    callbacks: Sequence[Callback],
    from_run: str | Path | None = None,
) -> tuple[VAE, History, Any]:
    """Build a model and train it; return it with its history, and with what was taken from another run."""
    recipe, schema = config.recipe, prepared.schema
    objective = recipe.make_objective(schema, _n_epochs(config, loaders)).to(device)
    module = recipe.build(schema).to(device)
    if module.size is not None:
        module.size.fit(loaders.reference)
    start_from_components(module, loaders.reference)
    transferred = None if from_run is None else transfer_weights(module, schema, from_run)
    with compiled((module, objective), device, config.run.compile):
        history = train(
            module, objective, loaders.training, loaders.validation, recipe.training, device=device, world=world,
            callbacks=callbacks, parameter_groups=recipe.parameter_groups(module, objective),
            recorder=recorder,
        )  # fmt: skip
    return module, history, transferred


def _n_epochs(config: FitConfig, loaders: Loaders) -> int:
    return config.recipe.training.n_epochs(loaders.training.sampler.n_cells)


def _responses(
    module: VAE,
    ended: str,
    loaders: Loaders,
    prepared: Prepared,
    config: FitConfig,
    device: torch.device,
    world: World,
    recorder: Recorder,
    stop: StopRequest,
    progress: bool,
) -> Responses | None:
    """Compute the profiles of the training cells, and train models without some of their states."""
    epochs = max(1, _n_epochs(config, loaders) // FOLD_EPOCHS)
    shorter = replace(config, recipe=config.recipe.edit({"epochs": epochs}))

    def train_on(split: Split) -> tuple[VAE, Loader]:
        part = replace(prepared, split=split)
        some = part.loaders(shorter, device)
        torch.manual_seed(config.run.seed)
        return _optimised(part, shorter, some, device, world, recorder, [StopOnSignal(stop)])[0].eval(), some.training

    skips = config.run.from_run is not None or ended.startswith((STOPPED, "opened at"))
    return fit_responses(
        module, prepared, loaders.training, config.covariates.context, 0 if skips else config.run.folds,
        train_on, device, lambda: stop.agreed(world) is not None, progress and world.is_first,
    )  # fmt: skip


def _facts(prepared: Prepared, config: FitConfig, device: torch.device) -> dict[str, Any]:
    """Return what the manifest says of how training began."""
    return {
        "versions": versions(),
        "seed": config.run.seed,
        "device": str(device),
        "data": prepared.source.name,
        "fingerprint": prepared.fingerprint,
        "fingerprint_of_covariates": prepared.fingerprint_of_covariates,
        **_embedding_facts(prepared, config),
        **provenance(),
    }


def _embedding_facts(prepared: Prepared, config: FitConfig) -> dict[str, Any]:
    """Return the hash of the vectors of each embedding, and where they came from."""
    found = {c.name: c.embedding.sha256 for c in prepared.schema.categorical if c.embedding is not None}
    given = config.covariates.embedding or {}
    files = {name: value if isinstance(value, str) else "a table in memory" for name, value in given.items()}
    return {"embeddings": {name: {"file": files[name], "sha256": found[name]} for name in found}} if found else {}


def _chosen(recipe: Any, from_run: str | Path | None) -> Recipe:
    """Return the recipe by name, or like that of a trained model."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe is not None and not isinstance(recipe, str):
        raise RecipeError(f'fit takes the data first: fit(data, "nb"). This recipe is of type {type(recipe).__name__}.')
    return recipe_named(recipe or "nb") if from_run is None else recipe_like(recipe, from_run)


def _with_settings(chosen: Recipe, options: Mapping[str, Any], setting: Mapping[str, Any] | None) -> Recipe:
    """Return the recipe with the settings that have an option of their own, and with all others."""
    setting = setting or {}
    if twice := options.keys() & setting.keys():
        raise RecipeError(f"'{min(twice)}' is given twice, as an option and as a setting. Leave one out.")
    return chosen.edit({**setting, **options})


def _labelled(
    data: Any, labels: Any, condition: str | Sequence[str], factor: float | None
) -> tuple[AnnData, str | Sequence[str]]:
    """Join labels with an array; they are the condition, unless another is given."""
    if not is_array(data):
        raise DataError(
            "labels and factor go with an array of cells × genes: other data have labels in obs. Name the obs column."
        )
    adata = from_arrays(data, labels, factor=factor)
    return adata, condition or list(adata.obs.columns)


def _location(data: Data) -> dict[str, Any]:
    """Return what the config file keeps of where the data are and how they were read."""
    if isinstance(data, ReadOptions):
        return data.to_flat()
    return {"data": str(data) if isinstance(data, str | Path) else None}
