"""`genevae sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import Data, FieldValues, Force, assignments, say, target
from genevae.errors import RecipeError

__all__ = ["sweep"]


def sweep(
    data: Data,
    *,
    out: Path,
    each: Annotated[FieldValues, Parameter(help="A setting and its values, the simplest first: n_latent=5,10,20,50.")],
    force: Force = False,
    recipe: str = "nb",
    condition: Sequence[str] | None = None,
    continuous: Sequence[str] | None = None,
    batch: str | None = None,
    control: FieldValues | None = None,
    group: str | None = None,
    genes: str | None = None,
    epochs: int | None = None,
    setting: FieldValues | None = None,
    split_by: str | None = None,
    test: float = 0.2,
    repeats: int = 1,
    cells: int = 2000,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Fit a recipe with several values of a setting, and compare the fits on held-out cells.

    Parameters
    ----------
    out
        The folder to write: sweep.csv, sweep.png, and a run folder for each fit.
    recipe
        The method.
    condition
        Categorical obs columns that the model is given.
    continuous
        Numeric obs columns that the model is given.
    batch
        The obs column of the technical batch.
    control
        The reference level of a condition, as FIELD=VALUE; the value alone where there is one condition.
    group
        The obs column whose categories make pairs of cells.
    genes
        Genes to model: the number of highly variable ones, or a file with one name per line; all by default.
    epochs
        Passes over the training cells at most.
    setting
        Any other setting of the recipe, as NAME=VALUE.
    split_by
        An obs column, such as the donor; no group of it is in two parts.
    test
        Share of the cells that is held out of all fits.
    repeats
        Random splits, each with fits of its own; the runs of the first are kept.
    cells
        Held-out cells that are compared, sampled where there are more.
    seed
        Of the split, the fits and the draws.
    device
        auto, cpu, cuda or mps.
    """
    values = {name: str(text).split(",") for name, text in assignments(each).items()}
    if any(not all(texts) for texts in values.values()):
        raise RecipeError("Write each setting as NAME=VALUE,VALUE, such as n_latent=5,10,20.")
    given: dict[str, Any] = {
        "condition": condition, "continuous": continuous, "batch": batch, "control": target(control),
        "group": group, "genes": genes, "epochs": epochs, "setting": assignments(setting), "split_by": split_by,
    }  # fmt: skip
    result = gv.sweep(
        data, recipe, each=values, test=test, repeats=repeats, cells=cells, seed=seed, out=out, overwrite=force,
        device=device,
        **{name: value for name, value in given.items() if value},
    )  # fmt: skip
    say(str(result), f"Wrote {out}")
