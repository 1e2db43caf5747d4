"""`genevae loadings` and `genevae program-scores`: what the dimensions of a linear model are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import genevae as gv
from genevae.cli.options import Data, Force, Out, Run, Table, say
from genevae.cli.table_output import require_table, write_table
from genevae.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["loadings", "program_scores"]

MOST_PROGRAMS, MOST_GENES = 8, 6


def loadings(run: Run, *, out: Table, force: Force = False) -> None:
    """List the loading of every gene on every dimension of a model of recipe linear or programs."""
    require_table(out, force, run)
    table = gv.loadings(run)
    write_table(table, out, "gene")
    for name in table.columns[(table != 0).any()][:MOST_PROGRAMS]:
        most = table[name].sort_values(key=abs, ascending=False)[:MOST_GENES]
        say(f"{name}: {', '.join(f'{gene} {value:+.2f}' for gene, value in most.items() if value)}")
    say(f"Wrote {out}")


def program_scores(
    run: Run,
    data: Data,
    *,
    out: Out,
    table: Path | None = None,
    group_by: str | None = None,
    group1: str | None = None,
    group2: str | None = None,
    force: Force = False,
    batch_size: int = 512,
    seed: int = 0,
) -> None:
    """Score the gene programs of cells, with a model of recipe programs or linear.

    Parameters
    ----------
    table
        A table of the programs to write too: .csv, .tsv, .parquet or .json.
    group_by
        An obs column, whose groups are compared in every score.
    group1
        The group to compare.
    group2
        The group to compare with; by default all other cells.
    batch_size
        Cells in one step.
    seed
        Of the pairs of cells that are compared.
    """
    from genevae.tasks.output import TaskOutput, require_writable

    require_writable(out, force, run, data)
    if table is not None:
        if table.resolve() == out.resolve():
            raise DataError(f"--out and --table are one file, {out}. Give the table another name.")
        require_table(table, force, run, data)
    found = gv.program_scores(
        run, data, group_by=group_by, group1=group1, group2=group2, batch_size=batch_size, seed=seed
    )
    columns = {name: found.var[name].to_numpy() for name in found.var}
    block = {"X": found.X, "layers/scale": found.layers["scale"]}
    blocks = (each for each in [block if out.suffix in {".h5ad", ".zarr"} else {"X": found.X}])
    TaskOutput(found.obs, tuple(found.var_names), blocks, {"programs": columns}).to_anndata(out)
    if table is not None:
        write_table(found.var, table, "program")
    say(*_lines(found.var, group1, group2), f"Wrote {out}")


def _lines(var: pd.DataFrame, one: str | None, two: str | None) -> Iterator[str]:
    """Say which programs differ most between the groups, or else which are strongest."""
    if "probability" in var:
        yield f"Probability that the score of a cell of {one} is above that of a cell of {two or 'the rest'}:"
        yield from (f"  {name}: {p:.2f}" for name, p in var["probability"][:MOST_PROGRAMS].items())
        return
    yield "The strongest programs (length of the loadings × standard deviation of the scores):"
    strongest = var["strength"].nlargest(MOST_PROGRAMS)
    yield from (f"  {name}: {value:.2f}" for name, value in strongest.items())
