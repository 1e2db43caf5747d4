"""Commands that only look."""

from __future__ import annotations

import inspect as introspection

from rich.console import Console
from rich.table import Table

import genevae as gv

__all__ = ["inspect", "recipes"]


def inspect(data: str, *, layer: str | None = None) -> None:
    """Say what is in a file: counts or not, empty cells, odd values, covariates, and the recipe that fits.

    Parameters
    ----------
    data
        An h5ad or zarr file, or a 10x file or folder.
    layer
        The layer that holds the expression, or "raw"; X by default.
    """
    Console(soft_wrap=True, highlight=False).print(str(gv.inspect(data, layer)), markup=False)


def recipes() -> None:
    """List the recipes."""
    table = Table("recipe", "what it is", box=None, pad_edge=False)
    for name, recipe in gv.RECIPES.items():
        table.add_row(name, (introspection.getdoc(recipe) or "").splitlines()[0])
    Console().print(table)
