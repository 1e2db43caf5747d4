"""`genevae dose-response`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import genevae as gv
from genevae.cli.endings import dose_lines
from genevae.cli.options import Data, FieldValues, Force, Run, Table, numbers, target
from genevae.cli.table_output import require_table, save_picture, save_table

__all__ = ["dose_response"]


def dose_response(
    run: Run,
    data: Data,
    *,
    out: Table,
    force: Force = False,
    picture: Path | None = None,
    condition: Annotated[FieldValues | None, Parameter(name=("--set", "--condition"))] = None,
    field: str | None = None,
    doses: str | None = None,
    genes: Sequence[str] | None = None,
    answer: str = "auto",
    interval: float = 0.9,
    least_change: float = 0.1,
    size: float | None = None,
    batch_size: int = 512,
    seed: int = 0,
) -> None:
    """Compute the dose-response curve of each gene, with its EC50.

    Parameters
    ----------
    picture
        The curves of the genes that change most to draw: .png, .pdf or .svg.
    condition
        The drug, as FIELD=VALUE, and any other condition to set; by default the only category besides the control.
    field
        The continuous condition that is the dose; by default the only one.
    doses
        Doses in their own units, as in 0.1,1,10; by default 24, evenly spaced in their logarithm, from the lowest
        above zero in the data to the highest in training. Dose zero is always added.
    genes
        Genes to report; all by default.
    answer
        auto: the model and simple methods, such as a line in log(dose), weighted by how well each predicted doses it
        had not seen; model, or the name of one of them.
    interval
        Share of the intervals that hold the mean that would be measured in as many cells as training states have.
    least_change
        Genes whose level never changes by this share of its largest value have no EC50.
    size
        Give every cell this many counts; by default each keeps its own.
    batch_size
        Cells in one step.
    seed
        Of the random draws.
    """
    require_table(out, force, run, data, picture=picture)
    table = gv.dose_response(
        gv.load(run), data, condition=target(condition) or None, field=field, doses=numbers(doses),
        genes=genes, answer=answer, interval=interval, least_change=least_change, size=size,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    save_table(table, out, dose_lines(table))
    if picture is not None:
        from genevae.plotting.curves import dose_picture

        save_picture(picture, partial(dose_picture, table))
