"""`genevae effect`: the table of effects, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import genevae as gv
from genevae.cli.endings import effect_lines
from genevae.cli.options import Data, Force, Run, Table, say
from genevae.cli.table_output import require_table, save_picture, write_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["effect"]

MAX_GENES, MAX_COLUMNS = 50, 60


def effect(
    run: Run,
    data: Data,
    *,
    out: Table,
    field: str | None = None,
    force: Force = False,
    picture: Path | None = None,
    control: str | None = None,
    to: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    answer: str = "auto",
    change: float = 0.25,
    replicate: str | None = None,
    interval: float = 0.9,
    batch_size: int = 512,
    seed: int = 0,
) -> None:
    """Estimate the effect of each perturbation on each gene, in each context such as a cell type.

    Parameters
    ----------
    field
        The condition whose categories are the perturbations; by default the one with a control, or the only one.
    picture
        A heat map of the largest effects to write: .png, .pdf or .svg.
    control
        The category to compare with; by default the control of the model.
    to
        The categories to compare; by default all others.
    by
        The conditions and contexts whose combinations are the groups; by default every other one but the batch.
    answer
        auto: the model and simple methods, weighted by how well each predicted states it had not seen; model, or the
        name of one of them.
    change
        The smallest absolute log2 fold change that counts as a change, for the column probability.
    replicate
        A condition or context whose categories are independent replicates, such as the donor: adds a test.
    interval
        Share of the intervals that hold the change that would be measured in as many cells as training states have.
    batch_size
        Cells in one step.
    seed
        Of the random draws.
    """
    require_table(out, force, run, data, picture=picture)
    model = gv.load(run)
    for nesting in model.schema.nested:
        if nesting.outer == field:
            say(f"Note: {nesting}")
    table = gv.effect(
        model, data, field=field, control=control, to=to, by=by, answer=answer, change=change,
        replicate=replicate, interval=interval,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    write_table(table, out, "row")
    say(*effect_lines(table, change), f"Wrote {out}")
    if replicate is None:
        say("These are predictions, and no test: without --replicate, cells count as independent of each other.")
    if picture is not None:
        from genevae.plotting.embedding import effect_picture

        save_picture(picture, partial(effect_picture, largest(table)))


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """Return the top genes of all contexts and perturbations, sorted by their mean change.

    The columns, contexts and perturbations, are at most 60: those with the largest changes.
    """
    import pandas as pd

    names = list(table.columns[: table.columns.get_loc("gene")])
    said = table[names].astype(str).agg(" · ".join, axis=1)
    wide = table.assign(column=said).pivot_table(
        index="gene", columns="column", values="lfc", sort=False, observed=True
    )
    wide = wide[[name for name in wide if name in set(wide.abs().max().nlargest(MAX_COLUMNS).index)]]
    rank = wide.abs().rank(ascending=False, method="first").min(axis=1)
    first = (
        pd.DataFrame({"rank": rank, "size": -wide.abs().max(axis=1)}).sort_values(["rank", "size"]).index[:MAX_GENES]
    )
    return wide.loc[wide.loc[first].mean(axis=1).sort_values(ascending=False).index]
