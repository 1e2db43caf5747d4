"""Search for good settings of a recipe: optuna proposes, fits are scored on held-out cells, bad ones end early."""

from __future__ import annotations

import json
import math
import os
import shutil
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from genevae.calls import public
from genevae.data.covariates import obs_column
from genevae.errors import GenevaeError, RecipeError, RunError, nearest, warn
from genevae.evaluation.evaluate import evaluate
from genevae.evaluation.sweep import bounds_of, merged
from genevae.evaluation.tuning_page import write_page
from genevae.io.atomic import locked, replace_with, staging_folder
from genevae.io.formats import open_source
from genevae.io.overwrite import require_free, require_separate
from genevae.io.read_options import ReadOptions
from genevae.io.source import Source, fingerprint, select_rows
from genevae.metrics.bootstrap import paired
from genevae.progress import say_log
from genevae.recipes.registry import recipe_named
from genevae.runs.config_file import read_config, write_config
from genevae.runs.fit import fit
from genevae.runs.signals import STOPPED
from genevae.runs.trained import Trained, save
from genevae.training.callbacks import Callback

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.training.history import Epoch
    from genevae.training.state import State

__all__ = ["BOUND", "Tuning", "default_space", "tune"]

Space = Mapping[str, Any]

BOUND = "bound"
"""The default metric: the importance-weighted bound."""
SPACE: dict[str, Any] = {
    "n_latent": [5, 10, 20, 40],
    "hidden": [[64], [128], [256], [128, 128]],
    "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "dropout": {"low": 0.0, "high": 0.3},
}
"""What is varied by default, where a recipe has it."""
STARTUP, WARMUP = 5, 3
"""Trials, and epochs of each, before any is ended early."""
BEGINNING, LOG, TABLE, BEST, PAGE = "tuning.json", "trials.log", "trials.csv", "best.toml", "tuning.html"
FILES = {
    PAGE: "The page",
    BEST: "The best settings: genevae fit --config best.toml --out RUN",
    TABLE: "All trials",
}


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Parameters
    ----------
    table
        One row per trial: its settings; ``value``, its metric on cells that were held out of all trials' training;
        ``state``, complete, pruned (ended early), fail, or interrupted, with the whole search.
    importance
        The share of each setting in what made trials differ; they sum to one.
    best
        The settings of the best trial.
    comparison
        The best settings and the defaults on cells that no trial saw: the importance-weighted bound in nats per cell,
        and the 95 % interval of its difference from the defaults, paired by cell; empty without a bound.
    folder
        What was written: ``best.toml`` for ``genevae fit --config``, ``tuning.html``, ``trials.csv``, and the runs
        ``best`` and ``defaults``.
    """

    table: pd.DataFrame
    importance: pd.Series[float]
    best: dict[str, Any]
    comparison: pd.DataFrame
    folder: Path

    def __str__(self) -> str:
        """Return what was found, in sentences."""
        states = self.table["state"].value_counts()
        counted = ", ".join(f"{n} {state}" for state, n in states.items())
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self.importance.items())
        n_trials = len(self.table) - int(states.get("interrupted", 0))
        found = [f"{n_trials} trials: {counted}.", f"Best: {_listed(self.best)}."]
        found += [f"What mattered: {shares}."] if shares else []
        if len(self.comparison):
            best = self.comparison.loc["best"]
            found.append(
                f"On cells that no trial saw, the bound is {best['bound']:.2f} nats per cell, "
                f"{best['difference']:+.2f} ({best['low']:+.2f} to {best['high']:+.2f}) beside the defaults."
            )
            if best["low"] <= 0:
                found.append("The defaults are as good within the noise of these cells.")
        return "\n".join(found)


@public
def tune(
    data: AnnData | Source | ReadOptions | str | Path,
    recipe: str = "nb",
    *,
    out: str | Path,
    trials: int = 30,
    space: Space | str | Path | None = None,
    metric: str = BOUND,
    test: float = 0.2,
    cells: int = 2000,
    jobs: int = 1,
    executor: Executor | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> Tuning:
    """Search for good settings of a recipe.

    Cells are split twice. Some are set aside for the end. Each trial holds out a share of the others, the same for all,
    and is scored on it. Trials whose validation loss is below the median of the others at the same epoch end early. At
    the end, the best settings and the defaults are compared on the cells that were set aside. Call it again with the
    same arguments to continue, after it was killed or with more trials.

    Parameters
    ----------
    data, recipe
        As for :func:`~genevae.runs.fit.fit`.
    out
        The folder to write, and to continue in.
    trials
        Trials in all.
    space
        For each option of fit or setting of the recipe, a list of values, or a range such as
        ``{"low": 1e-4, "high": 1e-2, "log": True}``; or a TOML file of these. By default latent dimensions, hidden
        layers, learning rate and dropout.
    metric
        "bound", the importance-weighted bound; or any metric of :func:`~genevae.evaluation.evaluate.evaluate`, as
        ``report.scores["metric"]`` names it.
    test
        Share of the cells that each trial holds out, and share that is set aside.
    cells
        Held-out cells that a trial is scored on, sampled where there are more.
    jobs
        Trials at once, in processes of their own.
    executor
        Where trials run instead, such as an executor of submitit or dask; all its machines must see ``out``.
    seed
        Of the splits, the fits and the proposals.
    overwrite
        Whether to start again where the folder holds a search.
    progress
        Whether to say how it goes.
    options
        Any other option of fit.

    Raises
    ------
    RecipeError
        If optuna is missing, or an option, a setting or the space is not valid.
    RunError
        If the folder holds something else, or another search; or if no trial ended.

    References
    ----------
    Akiba et al., Optuna, KDD (2019); Bergstra et al., NeurIPS (2011), for the sampler.
    """
    files = [options.get(name) for name in ("genes", "gene_filter", "from_run")]
    require_separate(Path(out), data, space, *(each for each in files if isinstance(each, str | Path)))
    if find_spec("optuna") is None:
        raise RecipeError(
            "Tuning needs optuna: pip install 'genevae[tune]'. genevae sweep tries all values without it."
        )
    if trials < 1 or jobs < 1 or not 0 < test < 0.5:
        raise RecipeError(
            f"trials and jobs must be 1 or more, and test between 0 and 0.5, not {trials}, {jobs} and {test}."
        )
    out = Path(out)
    chosen = default_space(recipe) if space is None else _checked_space(space)
    search = _Search(data, recipe, chosen, metric, test, cells, seed, options, out)
    with locked(out), _quiet():
        is_new = search.begin(overwrite)
        try:
            _run(search, trials, jobs, executor, progress)
        except (RecipeError, TypeError):  # of an option or a setting
            if is_new and not any(trial.state.name == "COMPLETE" for trial in search.study().get_trials()):
                shutil.rmtree(out)
            raise
        return _finished(search)


def default_space(recipe: str) -> dict[str, Any]:
    """Return what is varied by default in a recipe."""
    known = recipe_named(recipe).settings()
    return {name: values for name, values in SPACE.items() if name in known}


@dataclass(frozen=True)
class _Search:
    """All that a trial needs, wherever it runs."""

    data: Any
    recipe: str
    space: Space
    metric: str
    test: float
    cells: int
    seed: int
    options: Mapping[str, Any]
    out: Path

    def begin(self, overwrite: bool) -> bool:
        """Make the folder, or check that it holds this search; return whether it is new."""
        source = self.source()
        here = json.loads(json.dumps({
            "recipe": self.recipe, "space": self.space, "metric": self.metric, "test": self.test, "cells": self.cells,
            "seed": self.seed, "options": dict(self.options), "data": fingerprint(source),
        }, default=str))  # fmt: skip
        is_new = overwrite or not (self.out / BEGINNING).is_file()
        if not is_new:
            there = json.loads((self.out / BEGINNING).read_text(encoding="utf-8"))
            if differ := [name for name in here if there.get(name) != here[name]]:
                name = differ[0]
                raise RunError(
                    f"{self.out} holds a search with another {name}: {there.get(name)}, not {here[name]}. Give "
                    "the same to continue, another folder, or --force (overwrite=True) to start again."
                )
            (self.out / f"{LOG}.lock").unlink(missing_ok=True)  # of a process that was killed; ours hold the folder
            _cut_to_entries(self.out / LOG)
        else:
            require_free(self.out, overwrite, [self.data], [BEGINNING])
            with staging_folder(self.out) as folder:
                draft = folder / self.out.name
                draft.mkdir()
                (draft / BEGINNING).write_text(json.dumps(here, indent=1) + "\n", encoding="utf-8")
                replace_with(draft, self.out)
        for trial in self.study().get_trials(deepcopy=False):
            if not trial.state.is_finished():  # the process that ran it has ended
                self.study().tell(trial.number, state=_optuna().trial.TrialState.FAIL)
        return is_new

    def source(self) -> Source:
        """Return the data."""
        layer = self.options.get("layer")
        return open_source(self.data, layer)

    def parts(self, source: Source) -> tuple[Source, Source]:
        """Return the cells for trials, and those that are set aside, whole groups of them where there are groups."""
        column = self.options.get("split_by")
        group_n = np.arange(len(source)) if column is None else pd.factorize(obs_column(source.obs, column))[0]
        order = np.random.default_rng(self.seed).permutation(np.unique(group_n))
        n_of = np.bincount(group_n[group_n >= 0])[order].cumsum()
        aside = order[: max(1, int((n_of <= self.test * len(source)).sum()))]
        is_aside = np.isin(group_n, aside)
        return select_rows(source, np.flatnonzero(~is_aside)), select_rows(source, np.flatnonzero(is_aside))

    def study(self, n_before: int = 0) -> Any:
        """Open the study, with a sampler whose seed depends on how many trials there were."""
        optuna = _optuna()
        journal = import_module("optuna.storages.journal")
        path = str(self.out / LOG)
        backend = journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path))
        sampler = optuna.samplers.TPESampler(seed=self.seed + n_before, constant_liar=True, n_startup_trials=STARTUP)
        return optuna.create_study(
            storage=journal.JournalStorage(backend), study_name="tuning", load_if_exists=True, direction="maximize",
            sampler=sampler, pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP),
        )  # fmt: skip

    def fit(self, source: Source, values: Mapping[str, Any], callbacks: Sequence[Callback] = ()) -> Trained:
        """Fit with these values among the options."""
        given = {name: value for name, value in self.options.items() if name != "layer"}
        model = fit(
            source, **{"recipe": self.recipe, **merged(given, values)}, test=self.test, seed=self.seed,
            callbacks=callbacks, progress=False,
        )  # fmt: skip
        if str(model.facts["ended"]).startswith(STOPPED):
            raise KeyboardInterrupt
        return model

    def value(self, model: Trained, source: Source) -> float:
        """Return the metric of a model on the cells that it held out; higher is better."""
        if self.metric == BOUND:
            return float(bounds_of([model], source, self.cells, self.seed)[0].mean())
        scores = evaluate({"model": model}, source, cells=self.cells, seed=self.seed, progress=False).scores
        ours = scores[scores["who"] == "model"]
        rows = ours[ours["metric"] == self.metric]
        if rows.empty:
            known = ours["metric"].unique()
            raise RecipeError(f"There is no metric '{self.metric}' here. {nearest(self.metric, known, 40)}")
        better = rows["better"].iloc[0]
        value = float(rows["value"].mean())
        return (
            value if better == "higher" else -value if better == "lower" else -abs(value - float(rows["ideal"].iloc[0]))
        )


def _cut_to_entries(log: Path) -> None:
    """Cut a log after its last whole entry, where a machine stopped while it was written.

    Raises
    ------
    RunError
        If an entry before the last is damaged.
    """
    content = log.read_bytes() if log.exists() else b""
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            whole = line.endswith(b"\n") and isinstance(json.loads(line), dict)
        except ValueError:
            whole = False
        if not whole and number < len(lines):
            raise RunError(
                f"{log} is damaged in line {number:,} of {len(lines):,}, so the search cannot continue. Copy it "
                "again, or start again in another folder; --force (overwrite=True) starts again in this one."
            )
        if not whole:
            os.truncate(log, len(content) - len(line))
            warn(f"The last entry of {log} was cut short, and is left out: its trial counts as interrupted.")


def _run(search: _Search, trials: int, jobs: int, executor: Executor | None, progress: bool) -> None:
    """Run the trials that are left."""
    n_done = sum(trial.state.name != "FAIL" for trial in search.study().get_trials(deepcopy=False))
    if executor is None and jobs == 1:
        for number in range(n_done, trials):
            said = _trial(search, number)
            if progress:
                say_log(f"trial {number + 1} of {trials}: {said}")
        return
    processes = None if executor else ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        pool: Executor = executor or processes  # type: ignore[assignment]
        futures = [pool.submit(_trial, search, number) for number in range(n_done, trials)]
        done, _ = wait(futures)
        for future in done:
            future.result()
    finally:
        if processes is not None:
            processes.shutdown(cancel_futures=True)


def _trial(search: _Search, number: int) -> str:
    """Run one trial, and say how it went."""
    optuna = _optuna()
    fail = optuna.trial.TrialState.FAIL
    with _quiet():
        study = search.study(number)
        trial = study.ask()
        try:
            values = {name: _suggested(trial, name, given) for name, given in search.space.items()}
            source = search.parts(search.source())[0]
            value = search.value(search.fit(source, values, [_Pruning(trial)]), source)
            if not math.isfinite(value):
                study.tell(trial, state=fail)
                return f"{_listed(values)}: no finite value"
            study.tell(trial, value)
            return f"{_listed(values)}: {value:.4g}"
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return f"{_listed(values)}: ended early"
        except RecipeError:
            study.tell(trial, state=fail)
            raise
        except GenevaeError as error:
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=fail)
            return f"failed: {error}"
        except BaseException:
            study.tell(trial, state=fail)
            raise


class _Pruning(Callback):
    """Report the validation loss of each epoch, and end a trial that is worse than most."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial

    def on_epoch(self, state: State, epoch: Epoch) -> None:  # noqa: ARG002 - the base's signature
        """Raise where the trial is to end."""
        if math.isfinite(epoch.validation_loss):
            self.trial.report(-epoch.validation_loss, epoch.epoch)
            if self.trial.should_prune():
                raise _optuna().TrialPruned


def _suggested(trial: Any, name: str, given: Any) -> Any:
    """Return the value that a trial takes; lists are categories, as JSON."""
    if isinstance(given, Mapping):
        low, high, log = given["low"], given["high"], bool(given.get("log", False))
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(name, low, high, log=log)
        return trial.suggest_float(name, float(low), float(high), log=log)
    return json.loads(trial.suggest_categorical(name, [json.dumps(each) for each in given]))


def _checked_space(space: Space | str | Path) -> dict[str, Any]:
    """Return a space, read from its file.

    Raises
    ------
    RecipeError
        If an entry is neither a list of values nor a range.
    """
    content = dict(read_config(space) if isinstance(space, str | Path) else space)
    for name, given in content.items():
        is_range = isinstance(given, Mapping) and {"low", "high"} <= given.keys() <= {"low", "high", "log"}
        ends = [given["low"], given["high"]] if is_range else []
        is_valid = all(isinstance(each, int | float) for each in ends) and (not ends or ends[0] < ends[1])
        if is_range and is_valid and not (given.get("log") and ends[0] <= 0):
            continue
        if is_range or isinstance(given, str | Mapping) or not isinstance(given, Sequence) or not given:
            raise RecipeError(
                f"The space of '{name}' is {given!r}. Give a list of values, such as {name} = [5, 10], or a range: "
                f"{name} = {{low = 1e-4, high = 1e-2, log = true}}, with low below high, and above zero for log."
            )
    if not content:
        raise RecipeError("The space is empty. Give settings with their values, such as n_latent = [5, 10, 20].")
    return content


def _finished(search: _Search) -> Tuning:
    """Compare the best trial with the defaults, and write what was found."""
    study = search.study()
    table = _table(study)
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if not complete:
        errors = [trial.user_attrs.get("error", "") for trial in study.get_trials(deepcopy=False)]
        raise RunError(f"No trial ended. The first said: {next(filter(None, errors), 'nothing')}")
    best = {name: _decoded(search.space[name], value) for name, value in study.best_trial.params.items()}
    source, aside = search.parts(search.source())
    models = {"defaults": search.fit(source, {}), "best": search.fit(source, best)}
    comparison = _comparison(models, aside, search)
    result = Tuning(table, _importance(study), best, comparison, search.out)
    config = tomllib.loads(str(models["best"].facts["config"]))
    where = search.data.to_flat() if isinstance(search.data, ReadOptions) else {}
    where = {"data": str(search.data)} if isinstance(search.data, str | Path) else where
    table.to_csv(search.out / TABLE, index=False)
    kept = {name: value for name, value in {**config, **where}.items() if name != "test"}
    (search.out / BEST).write_text(write_config(kept), encoding="utf-8")
    for name, model in models.items():
        save(model, search.out / name, overwrite=True)
    write_page(result, search.recipe, search.metric, FILES)
    return result


def _comparison(models: Mapping[str, Trained], aside: Source, search: _Search) -> pd.DataFrame:
    """Return the bounds of both models on the cells that were set aside."""
    try:
        bound_mn, _ = bounds_of(list(models.values()), aside, search.cells, search.seed)
    except RecipeError:  # no bound, or other genes
        return pd.DataFrame()
    gaps = [paired(each_n, bound_mn[0], search.seed) for each_n in bound_mn]
    rows = {"bound": bound_mn.mean(1), "difference": bound_mn.mean(1) - bound_mn[0].mean()}
    ends = {"low": [gap.low for gap in gaps], "high": [gap.high for gap in gaps]}
    return pd.DataFrame({**rows, **ends}, index=list(models))


def _table(study: Any) -> pd.DataFrame:
    rows = [
        {"trial": trial.number, **{n: v if not isinstance(v, str) else v.strip('"') for n, v in trial.params.items()},
         "value": trial.value if trial.state.name == "COMPLETE" else math.nan, "state": _state(trial)}
        for trial in study.get_trials(deepcopy=False)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _state(trial: Any) -> str:
    """Return how a trial ended; one that failed without an error was interrupted, with the whole search."""
    failed = trial.state.name == "FAIL"
    return "interrupted" if failed and "error" not in trial.user_attrs else trial.state.name.lower()


def _importance(study: Any) -> pd.Series[float]:
    """Return the share of each setting, or nothing where too few trials ended."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=UserWarning, module="optuna")
            found = _optuna().importance.get_param_importances(study)
    except (ValueError, RuntimeError, ImportError, UserWarning):
        found = {}
    return pd.Series(found, dtype=float)


def _decoded(given: Any, value: Any) -> Any:
    return value if isinstance(given, Mapping) else json.loads(value)


def _listed(values: Mapping[str, Any]) -> str:
    texts = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return ", ".join(f"{name}={text}" for name, text in texts.items())


def _optuna() -> Any:
    return import_module("optuna")  # it is optional, and slow to import


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what optuna says of each trial, and of experimental functions, away from the user."""
    optuna = _optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
