"""`genevae recipes`."""

from __future__ import annotations

from genevae.recipes import DESCRIPTIONS

__all__ = ["recipes"]


def recipes() -> None:
    """List the recipes."""
    from rich.console import Console
    from rich.table import Table

    table = Table("recipe", "what it is", box=None, pad_edge=False)
    for name, description in DESCRIPTIONS.items():
        table.add_row(name, description)
    Console().print(table)
