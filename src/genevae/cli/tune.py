"""`genevae tune`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import genevae as gv
from genevae.cli.options import Data, FieldValues, Force, assignments, say, target

__all__ = ["tune"]


def tune(
    data: Data,
    *,
    out: Path,
    recipe: str = "nb",
    trials: int = 30,
    space: Path | None = None,
    metric: str = "bound",
    condition: Sequence[str] | None = None,
    continuous: Sequence[str] | None = None,
    batch: str | None = None,
    control: FieldValues | None = None,
    genes: str | None = None,
    epochs: int | None = None,
    setting: FieldValues | None = None,
    split_by: str | None = None,
    test: float = 0.2,
    cells: int = 2000,
    jobs: int = 1,
    seed: int = 0,
    device: str = "auto",
    force: Force = False,
) -> None:
    """Search for good settings of a recipe: bad trials end early, and a search that was killed continues.

    Parameters
    ----------
    out
        The folder to write, or to continue in: best.toml for fit --config, tuning.html, trials.csv, and two runs.
    recipe
        The method.
    trials
        Trials in all; more than before continues a search.
    space
        A TOML file: each setting with a list of values, or a range such as {low = 1e-4, high = 1e-2, log = true}.
    metric
        bound, or any metric of evaluate by its name in metrics.csv.
    condition
        Categorical obs columns that the model is given.
    continuous
        Numeric obs columns that the model is given.
    batch
        The obs column of the technical batch.
    control
        The reference level of a condition, as FIELD=VALUE; the value alone where there is one condition.
    genes
        Genes to model: the number of highly variable ones, or a file with one name per line; all by default.
    epochs
        Passes over the training cells at most.
    setting
        Any other setting of the recipe, as NAME=VALUE.
    split_by
        An obs column, such as the donor; no group of it is in two parts.
    test
        Share of the cells that each trial holds out, and share that is set aside for the end.
    cells
        Held-out cells that a trial is scored on, sampled where there are more.
    jobs
        Trials at once, in processes of their own.
    seed
        Of the splits, the fits and the proposals.
    device
        auto, cpu, cuda or mps.
    """
    given: dict[str, Any] = {
        "condition": condition, "continuous": continuous, "batch": batch, "control": target(control) or None,
        "genes": int(genes) if genes is not None and genes.isdigit() else genes, "epochs": epochs,
        "setting": assignments(setting) or None, "split_by": split_by, "device": device,
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    result = gv.tune(
        data, recipe, out=out, trials=trials, space=space, metric=metric, test=test, cells=cells, jobs=jobs, seed=seed,
        overwrite=force, progress=gv.settings.progress, **options,
    )  # fmt: skip
    say(str(result), f"Wrote {out}: open tuning.html. Train: genevae fit --config {out / 'best.toml'} --out RUN")
