"""`genevae counterfactual`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

import genevae as gv
from genevae.cli.endings import counterfactual_lines
from genevae.cli.options import Data, FieldValues, Force, Into, OutOrInto, Run, say, target, written

__all__ = ["counterfactual"]


def counterfactual(
    run: Run,
    data: Data,
    *,
    condition: Annotated[FieldValues, Parameter(name=("--set", "--condition"))],
    out: OutOrInto = None,
    into: Into = None,
    force: Force = False,
    answer: str = "auto",
    n_draws: int = 25,
    interval: float = 0.9,
    batch_size: int = 512,
    seed: int = 0,
) -> None:
    """Predict what cells would look like in another condition.

    Parameters
    ----------
    condition
        The other condition, as FIELD=VALUE; other fields and the size stay as they are in each cell.
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
    """
    path = written(out, into)
    result = gv.counterfactual(
        gv.load(run), data, condition=target(condition), answer=answer, n_draws=n_draws,
        interval=interval, batch_size=batch_size, seed=seed, out=out, into=into, overwrite=force,
    )  # fmt: skip
    say(*counterfactual_lines(result), f"Wrote {path}")
