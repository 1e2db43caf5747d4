"""`genevae counterfactual`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import genevae as gv
from genevae.cli.endings import counterfactual_lines
from genevae.cli.options import (
    Data,
    Executor,
    FieldValues,
    Force,
    Into,
    OutOrInto,
    Run,
    assignments,
    say,
    target,
    written,
)
from genevae.errors import CategoryError, RunError

__all__ = ["counterfactual"]


def counterfactual(
    run: Run,
    data: Data,
    *,
    condition: Annotated[FieldValues | None, Parameter(name=("--set", "--condition"))] = None,
    conditions: Path | None = None,
    out: OutOrInto = None,
    into: Into = None,
    force: Force = False,
    answer: str = "auto",
    n_draws: int = 25,
    interval: float = 0.9,
    batch_size: int = 512,
    seed: int = 0,
    purpose: Annotated[Literal["cell-eval"] | None, Parameter(name="--for")] = None,
    executor: Executor = None,
) -> None:
    """Predict what cells would look like in another condition.

    Parameters
    ----------
    condition
        The other condition, as FIELD=VALUE; other fields and the size stay as they are in each cell.
    conditions
        A table of conditions instead: a row each, with covariates as columns. All cells are predicted in each.
    answer
        auto: the model and simple methods, weighted by how well each predicted states it had not seen; model, or the
        name of one of them.
    n_draws
        Draws from the posterior of each cell.
    interval
        Share of the intervals that hold the mean that would be measured.
    batch_size
        Cells in one step.
    seed
        Of the random draws.
    purpose
        cell-eval: write a folder with predictions from control cells and the real cells, as cell-eval of the Virtual
        Cell Challenge reads them. --set is then the column of the perturbation, or FIELD=VALUE,VALUE.
    """
    if purpose is not None:
        if out is None:
            raise RunError("Say where the files for cell-eval go: give the folder to write, --out FOLDER.")
        if into is not None:
            raise RunError("The files for cell-eval are a folder of their own: leave --into out.")
        if not condition:
            raise RunError("Give the column of the perturbation with --for cell-eval: --set COLUMN.")
        _for_cell_eval(run, data, condition, out, force, answer, seed)
        return
    path = written(out, into)
    result = gv.counterfactual(
        gv.load(run), data, condition=target(condition), conditions=conditions, answer=answer, n_draws=n_draws,
        interval=interval, batch_size=batch_size, seed=seed, out=out, into=into, overwrite=force,
        executor=executor,
    )  # fmt: skip
    say(*counterfactual_lines(result), f"Wrote {path}")


def _for_cell_eval(
    run: Path, data: Any, condition: Sequence[str], out: Path, force: bool, answer: str, seed: int
) -> None:
    """Write the folder for cell-eval, and print its command."""
    from genevae.tasks.cell_eval import PREDICTED, REAL

    name, targets = condition[0], None
    if "=" in name:
        values = assignments(condition)
        name, given = next(iter(values.items()))
        if len(values) > 1:
            raise CategoryError(
                f"cell-eval compares the perturbations of one column. Give one of: {', '.join(values)}."
            )
        targets = [each for text in ([given] if isinstance(given, str) else given) for each in text.split(",")]
    model = gv.load(run)
    folder = gv.for_cell_eval(model, data, name, targets=targets, out=out, answer=answer, seed=seed, overwrite=force)
    control = model.schema.categorical_field(name).control
    say(
        f"Wrote {folder}. Score it:",
        f"  cell-eval run -ap {quote(str(folder / PREDICTED))} -ar {quote(str(folder / REAL))} "
        f"--pert-col {quote(name)} --control-pert {quote(str(control))}",
    )
