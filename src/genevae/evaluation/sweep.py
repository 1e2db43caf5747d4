"""Fit one recipe with several values of its settings, and compare them on held-out cells."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.calls import public
from genevae.errors import DataError, RecipeError
from genevae.evaluation.load_cells import load_cells
from genevae.evaluation.model import EvaluatedModel
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.formats import ReadOptions, open_source
from genevae.io.overwrite import require_free
from genevae.io.source import Source
from genevae.metrics.bootstrap import paired
from genevae.metrics.bound import bound, importance_weighted_bound
from genevae.plotting.training import sweep_picture
from genevae.runs.fit import fit
from genevae.runs.signals import STOPPED
from genevae.runs.trained import Trained, save

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Sweep", "bounds_of", "merged", "sweep"]

_Round = tuple[list[Trained], NDArray[np.float64], pd.DataFrame]
"""The fits of one split, the bound of each fit and cell, and the mean terms of each fit."""
N_DRAWS = 50
"""Draws of the latent of each cell, for the importance-weighted bound."""
TABLE = "sweep.csv"


@dataclass(frozen=True)
class Sweep:
    """The fits of a sweep, and how they compare.

    Parameters
    ----------
    table
        One row per fit: its settings; ``bound``, the importance-weighted bound of the held-out cells in nats per cell;
        ``low`` and ``high``, the 95 % interval of its difference from the best, paired by cell; ``reconstruction``,
        the mean of log p(x | z, c) in nats per cell; ``kl`` likewise; ``epochs`` and ``seconds``; with several splits
        ``bound_sd``, the standard deviation of the bound over them.
    models
        The models, in the order of the table.
    best
        The row with the highest bound.
    choice
        The first row, in the order that was given, whose bound is not below the best beyond its interval.
    """

    table: pd.DataFrame
    models: Sequence[Trained]
    best: int
    choice: int

    def __str__(self) -> str:
        """Return the table, and the choice in a sentence."""
        names = list(self.table.columns[: self.table.columns.get_loc("bound")])
        best, choice = (
            ", ".join(f"{name} {self.table[name][row]}" for name in names) for row in (self.best, self.choice)
        )
        says = f"The highest bound has {best}"
        says += "." if self.best == self.choice else f"; {choice} is as good within the noise of the held-out cells."
        return f"{self.table.to_string(index=False, float_format=lambda x: f'{x:.3f}')}\n{says} Choice: {choice}."


@public
def sweep(
    data: AnnData | Source | ReadOptions | str | Path,
    recipe: str = "nb",
    *,
    each: Mapping[str, Sequence[Any]],
    test: float = 0.2,
    repeats: int = 1,
    cells: int = 2000,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> Sweep:
    """Fit a recipe once for every combination of values, and compare the fits on the same held-out cells.

    Parameters
    ----------
    data, recipe
        As for :func:`~genevae.runs.fit.fit`.
    each
        For each option of fit or setting of the recipe, its values, the simplest first.
    test
        Share of the cells that is held out of all fits.
    repeats
        Random splits, each with fits of its own; the runs of the first are kept.
    cells
        Held-out cells that are compared, sampled where there are more.
    seed
        Of the split, the fits and the draws.
    out
        A folder to write: sweep.csv, sweep.png, and a run folder for each fit.
    overwrite
        Whether an existing folder is replaced.
    progress
        Whether to show progress bars.
    options
        Any other option of fit.

    Raises
    ------
    RecipeError
        If there is nothing to vary, an option or a value is unknown, or the fits cannot be compared: they model other
        genes or values.
    DataError
        If no cell is held out.
    """
    if not each or not all(each.values()):
        raise RecipeError("Say what to vary, such as each={'n_latent': [5, 10, 20]}, or --each n_latent=5,10,20.")
    if repeats < 1:
        raise RecipeError(f"repeats must be 1 or more, not {repeats}.")
    if out is not None:
        files = [options.get(name) for name in ("genes", "gene_filter", "from_run")]
        require_free(Path(out), overwrite, [data, *(each for each in files if isinstance(each, str | Path))])
    source = open_source(data, options.pop("layer", None))
    combinations = [dict(zip(each, values, strict=True)) for values in itertools.product(*each.values())]
    rounds = []
    for at in range(seed, seed + repeats):
        models = []
        for values in combinations:
            model = fit(source, **{"recipe": recipe, **merged(options, values)}, test=test, seed=at, progress=progress)
            if str(model.facts["ended"]).startswith(STOPPED):
                raise KeyboardInterrupt
            models.append(model)
        rounds.append((models, *bounds_of(models, source, cells, at)))
    result = _compared(pd.DataFrame(combinations), rounds, seed)
    if out is not None:
        _write(result, list(each), Path(out))
    return result


def _compared(table: pd.DataFrame, rounds: Sequence[_Round], seed: int) -> Sweep:
    """Compare fits over all splits; cells are paired within a split."""
    bound_rn = np.concatenate([bounds for _, bounds, _ in rounds], axis=1)
    table["bound"] = bound_rn.mean(1)
    best = int(table["bound"].idxmax())
    gaps = [paired(each_n, bound_rn[best], seed) for each_n in bound_rn]
    table["low"], table["high"] = [gap.low for gap in gaps], [gap.high for gap in gaps]
    if len(rounds) > 1:
        table["bound_sd"] = np.std([bounds.mean(1) for _, bounds, _ in rounds], axis=0, ddof=1)
    table = pd.concat([table, sum(terms for _, _, terms in rounds) / len(rounds)], axis=1)
    models = rounds[0][0]
    table["epochs"] = [len(model.history) for model in models]
    table["seconds"] = [model.facts["seconds"] for model in models]
    return Sweep(table, models, best, next(row for row, gap in enumerate(gaps) if gap.high >= 0))


def merged(options: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Put values among the options of fit, and those that are none among the settings."""
    known = inspect.signature(fit).parameters
    settings = {name: value for name, value in values.items() if name not in known}
    chosen = {name: value for name, value in values.items() if name in known}
    merged = {**options, **chosen}
    if settings:
        merged["setting"] = {**(options.get("setting") or {}), **settings}
    return merged


def bounds_of(
    models: Sequence[Trained], source: Source, cells: int, seed: int
) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """Return the importance-weighted bound of each fit and held-out cell, and the two terms of the plain bound."""
    context, _ = load_cells({str(row): model for row, model in enumerate(models)}, source, cells, seed)
    if not context.evaluation_n.any():
        raise DataError("No cell is held out of all fits: raise test.")
    evaluated = list(context.models.values())
    if len({(model.schema.genes, model.schema.input_kind) for model in evaluated}) > 1:
        raise RecipeError(
            "These fits model other genes or values, and their bounds cannot be compared. Vary other settings, or use "
            "genevae evaluate."
        )
    held_out = context.cells[context.evaluation_n]
    weights = [_log_weights(model, held_out, seed) for model in evaluated]
    reconstruction = [_reconstruction(model, held_out, seed) for model in evaluated]
    terms = pd.DataFrame({"reconstruction": reconstruction})
    terms["kl"] = terms["reconstruction"] - [bound(log_w).mean() for log_w in weights]
    return np.stack([importance_weighted_bound(log_w) for log_w in weights]), terms


def _log_weights(model: EvaluatedModel, cells: AnnData, seed: int) -> NDArray[Any]:
    log_w_sn = None if model.log_weights is None else model.log_weights(cells, N_DRAWS, seed)
    if log_w_sn is None:
        raise RecipeError("This recipe has no bound to compare: its latent is a point. Use genevae evaluate.")
    return log_w_sn


def _reconstruction(model: EvaluatedModel, cells: AnnData, seed: int) -> float:
    """Return the mean over cells and draws of log p(x | z, c), in nats."""
    if model.likelihoods is None:
        return float("nan")
    found = [d.p.log_prob_n(d.x, d.measured_ng).mean(0).cpu().numpy() for d in model.likelihoods(cells, 10, seed)]
    return float(np.concatenate(found).mean())


def _write(result: Sweep, names: Sequence[str], out: Path) -> None:
    with staging_folder(out) as folder:
        draft = folder / out.name
        draft.mkdir()
        result.table.to_csv(draft / TABLE, index=False)
        sweep_picture(result.table, names, result.choice, draft / "sweep.png")
        for name, model in zip(_folders(result.table, names), result.models, strict=True):
            save(model, draft / name)
        replace_with(draft, out)


def _folders(table: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    for row in range(len(table)):
        yield "-".join(f"{name}_{table[name][row]}".replace("/", "_") for name in names)
