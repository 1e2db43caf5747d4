"""`genevae de`: the table of differential expression, and its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import Data, Force, Run, Table, say
from genevae.cli.table_output import require_table, save_picture, write_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["de"]

MOST_LINES, MOST_GENES = 10, 5


def de(
    run: Run,
    data: Data,
    *,
    group_by: str,
    out: Table,
    group1: Sequence[str] | None = None,
    group2: Sequence[str] | None = None,
    change: float = 0.25,
    fdr: float = 0.05,
    replicate: str | None = None,
    average_batches: Annotated[bool, Parameter(negative="--no-average-batches")] = True,
    interval: float = 0.9,
    n_draws: int = 10,
    picture: Path | None = None,
    force: Force = False,
    batch_size: int = 512,
    seed: int = 0,
) -> None:
    """Find the genes whose expression differs between groups of cells, with the expected share of false ones.

    Parameters
    ----------
    group_by
        The obs column of the groups.
    group1
        The groups to compare, each on its own; by default all.
    group2
        The group to compare with, or several together; by default all other cells.
    change
        The smallest absolute log2 fold change that counts.
    fdr
        The expected share of false ones among the genes that are called.
    replicate
        An obs column of independent replicates, such as the donor. Without, cells count as independent.
    average_batches
        Average over the technical batches of the model.
    interval
        The probability that the change is between lower and upper.
    n_draws
        Samples from the posterior of each cell.
    picture
        A volcano plot to write: .png, .pdf or .svg.
    batch_size
        Cells in one step.
    seed
        Of the random draws.
    """
    require_table(out, force, run, data, picture=picture)
    table = gv.differential_expression(
        run, data, group_by, group1=group1 or None, group2=group2 or None, change=change, fdr=fdr,
        replicate=replicate, average_batches=average_batches, interval=interval, n_draws=n_draws,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    write_table(table, out, "row")
    say(*_lines(table), f"Wrote {out}")
    if replicate is None:
        say("Cells count as independent: this says nothing about other donors. With --replicate FIELD, it does.")
    if picture is not None:
        from genevae.plotting.volcano import volcano_picture

        save_picture(picture, partial(volcano_picture, table))


def _lines(table: pd.DataFrame) -> Iterator[str]:
    """Say how many genes differ in each comparison, and which differ most."""
    for at, ((one, other), rows) in enumerate(table.groupby(["group1", "group2"], sort=False)):
        if at == MOST_LINES:
            yield "… and more comparisons."
            return
        called = rows[rows["called"]].sort_values("lfc")
        up, down = (
            ", ".join(f"{row.gene} {row.lfc:+.2f}" for row in side.itertuples())
            for side in (called[called["lfc"] > 0][: -MOST_GENES - 1 : -1], called[called["lfc"] < 0][:MOST_GENES])
        )
        most = f" Up: {up or 'none'}. Down: {down or 'none'}." if len(called) else ""
        yield f"{one} against {other}: {len(called):,} of {len(rows):,} genes.{most}"
