"""`genevae fit`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from genevae.cli.endings import genes_of, next_commands, progress_of
from genevae.cli.options import (
    DataIfAny,
    FieldValues,
    Force,
    OptionalData,
    assignments,
    names,
    other_options,
    say,
    target,
)
from genevae.errors import RecipeError, shorten
from genevae.io.overwrite import require_separate
from genevae.io.read_options import ReadOptions
from genevae.progress import say_log
from genevae.runs.signals import STOPPED
from genevae.session import settings as session
from genevae.training.launch_env import launched

if TYPE_CHECKING:
    from genevae.runs.trained import Trained

__all__ = ["fit"]


def fit(
    data: OptionalData = DataIfAny(),  # noqa: B008 - it is frozen
    *,
    out: Path | None = None,
    resume: Path | None = None,
    force: Force = False,
    config: Path | None = None,
    log: Sequence[str] | None = None,
    recipe: str | None = None,
    condition: Sequence[str] | None = None,
    continuous: Sequence[str] | None = None,
    batch: Sequence[str] | None = None,
    control: FieldValues | None = None,
    combine: Sequence[str] | None = None,
    context: Sequence[str] | None = None,
    group: str | None = None,
    view: str | None = None,
    labels: str | None = None,
    unlabelled: str | None = None,
    embedding: FieldValues | None = None,
    genes: str | None = None,
    gene_filter: Path | None = None,
    gene_sets: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    n_latent: int | None = None,
    hidden: str | None = None,
    learning_rate: float | None = None,
    accumulate: int | None = None,
    precision: str | None = None,
    setting: FieldValues | None = None,
    validation: float | None = None,
    test: float | None = None,
    stratify: str | None = None,
    split_by: str | None = None,
    hold_out: FieldValues | None = None,
    balance: str | None = None,
    folds: int | None = None,
    from_run: Annotated[Path | None, Parameter(name=("--from", "--from-run"))] = None,
    seed: int | None = None,
    device: str | None = None,
    compile: bool = False,  # noqa: A002 - torch's name
    cuda_graphs: bool = False,
    checkpoint_every: str | None = None,
    keep_checkpoints: int | None = None,
    read_threads: int | None = None,
    threads: str | None = None,
) -> None:
    """Train a model, and save it to a folder.

    Parameters
    ----------
    out
        The folder to write.
    resume
        The folder of an interrupted fit with checkpoints: continue it as it began.
    config
        A TOML file of these options; a run folder keeps its own. Options win.
    log
        tensorboard: curves, the latent and pictures, in RUN-tensorboard.
    recipe
        The method; by default nb, or that of --from. `genevae recipes` lists them.
    condition
        Categorical obs columns that the model is given, such as cell type or perturbation (scvi-tools:
        categorical_covariate_keys).
    continuous
        Numeric obs columns that the model is given, such as a dose (scvi-tools: continuous_covariate_keys).
    batch
        The obs column of the technical batch, which the model is given too (scvi-tools: batch_key).
    control
        The reference level of a condition, as FIELD=VALUE; the value alone where there is one condition.
    combine
        Conditions whose categories may be combinations: A+B is then the sum of A and B, also where no cell has it.
    context
        Obs columns, such as cell type, whose categories respond each in its way. The model is not given them; their
        mean expression in every condition is kept, and counterfactuals and effects use it. Conditions are contexts too.
    group
        The obs column whose categories make pairs of cells, for recipes that compare pairs.
    view
        An obs column of two categories, such as pseudobulk and cell type: a pair of a group then has one cell of each,
        and each has a projection of its own.
    labels
        The obs column of the labels, which is the first condition; for recipe semi, whose cells may have none
        (scvi-tools: labels_key).
    unlabelled
        The value of a condition in cells without a label, besides missing values and "unknown" (scvi-tools:
        unlabeled_category).
    embedding
        Vectors of the categories of a condition, as FIELD=FILE: .csv, .tsv or .parquet with the names in the first
        column, or .npy with a .txt of names. The model knows a category by its vector, so that counterfactuals
        answer for categories that only the file has (CPA, CellFlow, GEARS). Needs no row of the control.
    genes
        Genes to model: the number of highly variable ones, names with commas between them, or a file with one name per
        line; all by default.
    gene_filter
        A GTF file, whose protein-coding genes are kept, or a list of genes, of which the data may lack some; the
        genes to model are chosen among those.
    gene_sets
        The gene sets of recipe programs, as a GMT file. Those with at least five of the genes to model are dimensions
        of the latent.
    epochs
        Passes over the training cells at most; by default 30 from 1,000 to 4,000 training cells, more
        below, fewer above (scvi-tools: max_epochs).
    batch_size
        Cells in one step; by default as in the recipe.
    n_latent
        Latent dimensions; by default as in the recipe.
    hidden
        Width of each hidden layer, as in 512,256; by default as in the recipe (scvi-tools: n_hidden, n_layers).
    learning_rate
        Of Adam; by default as in the recipe (scvi-tools: lr).
    accumulate
        Minibatches whose gradients are added up for one step, where a larger minibatch does not fit in memory.
    precision
        float32, bf16 or fp16, for the layers between expression and distributions.
    setting
        Any other setting of the recipe, as NAME=VALUE.
    validation
        Share of the cells that is not trained on and chooses the best weights; 0.1 by default.
    test
        Share of the cells that is kept out of training altogether; none by default. split.csv names them.
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
        Of the split, the initial weights, the order of cells and the noise; 0 by default. Same seed, same bits.
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
        How many checkpoints are kept, the latest; 2 by default.
    read_threads
        Threads that read from disk, each a buffer of 16,384 cells; they change no result. 1 by default.
    threads
        Threads that compute; auto: as many as are fastest just then, for a machine where other programs run. By default
        as many as there are cores, or as OMP_NUM_THREADS says.
    """
    if threads is not None:
        session.num_threads = threads
    settings = {
        "epochs": epochs, "batch_size": batch_size, "n_latent": n_latent, "hidden": hidden,
        "learning_rate": learning_rate, "accumulate": accumulate, "precision": precision,
    }  # fmt: skip
    options = {
        **settings,
        "recipe": recipe, "condition": names(condition), "continuous": names(continuous), "batch": names(batch) or None,
        "control": target(control), "combine": names(combine),
        "context": names(context), "folds": folds, "group": group, "view": view,
        "labels": labels, "unlabelled": unlabelled, "embedding": _embedding(embedding),
        "genes": _genes(genes), "gene_filter": gene_filter, "setting": assignments(setting),
        "gene_sets": json.loads(gene_sets) if gene_sets and gene_sets.startswith("{") else gene_sets,
        "validation": validation, "test": test, "stratify": stratify, "split_by": split_by,
        "hold_out": assignments(hold_out), "balance": balance, "from_run": from_run, "seed": seed,
        "compile": compile or None, "cuda_graphs": cuda_graphs or None,
        "checkpoint_every": checkpoint_every, "keep_checkpoints": keep_checkpoints,
        "read_threads": read_threads,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value not in (None, [], {})}
    if resume is not None:
        shown = {"DATA": data.path or None, **other_options(data), "out": out, "config": config, "force": force or None}
        _resume(resume, device, log, {**shown, **given})
        return
    if out is None:
        raise RecipeError("Say where the model is to be saved: genevae fit DATA --out RUN.")
    require_separate(out, data, config, *_embedding(embedding).values())
    if _has_started(out):
        _resume(out, device, log, {})
        return
    if not data.path:
        raise RecipeError('Say what to train on: genevae fit DATA --out RUN, or a config file with data = "…".')
    _train(data, out, force, log, {**given, **({"device": device} if device else {})})


def _genes(text: str | None) -> Any:
    """Read the genes of the command line, or those that a config file lists."""
    if text and text.startswith("["):
        return json.loads(text)
    return names([text]) if text and "," in text and not Path(text).exists() else text


def _embedding(texts: Sequence[str] | None) -> Any:
    """Read the embeddings of the command line, or those that a config file has, with their vectors perhaps."""
    return json.loads(texts[0]) if texts and texts[0].startswith("{") else assignments(texts)


def _train(data: ReadOptions, out: Path, force: bool, log: Sequence[str] | None, options: dict[str, Any]) -> None:
    if session.progress and launched(os.environ).is_first:
        say_log(f"reading {data.path}")  # a first word, before PyTorch is loaded
    import genevae as gv
    from genevae.cli.tensorboard import show, tensorboard_logs

    with tensorboard_logs(log or (), out) as logs:
        model = gv.fit(data, **options, out=out, overwrite=force, callbacks=logs)
        show(logs, model)
    _report(model, out)
    if str(model.facts["ended"]).startswith(STOPPED):
        sys.exit(128 + signal.SIGINT)


def _has_started(out: Path) -> bool:
    """Whether the queue, or torchrun, has restarted this job after training had begun."""
    from genevae.runs.manifest import START

    return launched(os.environ).restarts > 0 and (out / START).is_file()


def _resume(run: Path, device: str | None, log: Sequence[str] | None, given: dict[str, Any]) -> None:
    """Continue a fit with the options that it began with."""
    import genevae as gv
    from genevae.cli.tensorboard import show, tensorboard_logs
    from genevae.runs.manifest import MANIFEST

    if extra := [name for name, value in given.items() if value is not None]:
        raise RecipeError(f"A run continues as it began: leave out {shorten(extra)}. Only the device may be another.")
    if (run / MANIFEST).exists() and launched(os.environ).is_first:
        say_log(f"{run} is trained already: nothing is left to resume. To train it further, fit with --from {run}.")
    with tensorboard_logs(log or (), run) as logs:
        model = gv.resume(run, device=None if device == "auto" else device, callbacks=logs)
        show(logs, model)
    _report(model, run)


def _report(model: Trained, out: Path) -> None:
    if launched(os.environ).is_first:
        say(_summary(model, out))


def _summary(model: Trained, out: Path) -> str:
    best = model.history.iloc[model.facts["best_epoch"] - 1]
    parts = model.split.value_counts()
    cells = ", ".join(f"{parts[part]:,} {part}" for part in ("training", "validation", "test") if part in parts)
    start = model.facts.get("from")
    begun = ""
    if start:
        begun = f"From     {start['run']}: {start['weights']} of {start['of']} weights, {start['genes']:,} genes\n"
    from genevae.data.nesting import one_way

    nested = "".join(f"Note     {nesting}\n" for nesting in one_way(model.schema.nested))
    ended = model.facts["ended"] + (f"; {more}" if (more := progress_of(model)) else "")
    commands = "".join(f"\n{'Next' if not i else '':<9}{each}" for i, each in enumerate(next_commands(model, out)))
    return begun + (
        f"Data     {model.facts['data']}: {model.schema.kind}, {genes_of(model)}; {cells} cells\n"
        f"Values   {model.schema.input_kind}; conditions: {', '.join(model.schema.fields) or 'none'}\n"
        f"{nested}"
        f"Trained  {len(model.history)} epochs: {ended}\n"
        f"Best     epoch {model.facts['best_epoch']}: validation loss {best['validation_loss']:.4g} per cell\n"
        f"Saved    {out}{commands}"
    )
