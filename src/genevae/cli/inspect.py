"""Commands that only look."""

from __future__ import annotations

import inspect as introspection
from typing import Any

from rich.console import Console
from rich.table import Table

import genevae as gv
from genevae.cli.options import files_of, parameters, with_signature

__all__ = ["inspect", "recipes"]


def _inspect(data: str, **given: Any) -> None:
    """Say what is in a file: counts or not, empty cells, odd values, covariates, and the recipe that fits.

    Parameters
    ----------
    data
        A file, a folder, or a pattern of many files.
    """
    Console(soft_wrap=True, highlight=False).print(str(gv.inspect(files_of(data, given))), markup=False)


_inspect.__name__ = "inspect"
_DATA = introspection.Parameter("data", introspection.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
inspect = with_signature(_inspect, _inspect, [_DATA, *parameters()])


def recipes() -> None:
    """List the recipes."""
    table = Table("recipe", "what it is", box=None, pad_edge=False)
    for name, recipe in gv.RECIPES.items():
        table.add_row(name, (introspection.getdoc(recipe) or "").splitlines()[0])
    Console().print(table)
