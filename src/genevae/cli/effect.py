"""`genevae effect`: the table of effects, and its picture."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from cyclopts import Parameter
from rich import print as say

import genevae as gv
from genevae.cli.options import files_of, options_of, parameters, with_signature
from genevae.cli.table_output import require_table, write_table
from genevae.cli.task import paths
from genevae.errors import RunError
from genevae.io.atomic import replace_with, require_free, staging_folder
from genevae.plotting.embedding import effect_picture

__all__ = ["effect"]

OPTIONS = options_of(gv.effect, {}, leave_out=["layer"])
MAX_GENES, MAX_COLUMNS = 50, 60


def _effect(run: Path, data: str, *, out: Path, force: bool = False, picture: Path | None = None, **given: Any) -> None:
    require_table(out, force)
    if picture is not None:
        _require_picture(picture, force)
    files = files_of(data, given)
    table = gv.effect(gv.load(run), files, **{name: OPTIONS[name][1](value) for name, value in given.items()})
    write_table(table, out, "row")
    say(f"Wrote {out}")
    if picture is not None:
        with staging_folder(picture) as folder:
            effect_picture(largest(table), folder / picture.name)
            replace_with(folder / picture.name, picture)
        say(f"Wrote {picture}")


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """Return the genes that are among the first of any kind of cell and perturbation, by their mean change.

    Kinds of cell and perturbations, the columns, are at most 60: those with the largest changes.
    """
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


def _require_picture(path: Path, overwrite: bool) -> None:
    if path.suffix not in {".png", ".pdf", ".svg"}:
        raise RunError(f"{path} cannot be drawn as '{path.suffix}'. There are: .png, .pdf, .svg.")
    require_free(path, overwrite, [])


_PICTURE = inspect.Parameter(
    "picture",
    inspect.Parameter.KEYWORD_ONLY,
    annotation=Annotated[Path | None, Parameter(help="A heat map of the largest effects: .png, .pdf or .svg.")],
    default=None,
)
_OWN = [*paths(takes_data=True), *(parameter for parameter, _ in OPTIONS.values()), _PICTURE, *parameters()]
effect = with_signature(_effect, gv.effect, _OWN)
