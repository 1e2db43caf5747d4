"""`genevae influence` and `genevae contributions`."""

from __future__ import annotations

import genevae as gv
from genevae.cli.endings import contribution_lines, influence_lines
from genevae.cli.options import Data, Force, Run, Table
from genevae.cli.table_output import require_table, save_table

__all__ = ["contributions", "influence"]


def influence(run: Run, data: Data, *, out: Table, force: Force = False, batch_size: int = 512) -> None:
    """Measure how much every field and category adds to expression, in a model of additive heads.

    Parameters
    ----------
    batch_size
        Cells in one step.
    """
    require_table(out, force, run, data)
    table = gv.influence(gv.load(run), data, batch_size=batch_size)
    save_table(table, out, influence_lines(table))


def contributions(
    run: Run, data: Data, *, out: Table, force: Force = False, top: int = 50, batch_size: int = 512
) -> None:
    """List the genes that every category adds most to, in a model of additive heads.

    Parameters
    ----------
    top
        Genes of each category; 0 lists all.
    batch_size
        Cells in one step.
    """
    require_table(out, force, run, data)
    table = gv.contributions(gv.load(run), data, top=top, batch_size=batch_size)
    save_table(table, out, contribution_lines(table))
