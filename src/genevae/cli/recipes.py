"""`genevae recipes`."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from genevae.cli.options import say
from genevae.recipes import DESCRIPTIONS

__all__ = ["recipes"]


def recipes(name: Annotated[str | None, Parameter(help="A recipe, to list its settings.")] = None) -> None:
    """List the recipes, or every setting of one: its default, its valid values and its meaning."""
    from rich.console import Console
    from rich.table import Table

    if name is not None:
        _settings(name)
        return
    table = Table("recipe", "what it is", box=None, pad_edge=False)
    for recipe, description in DESCRIPTIONS.items():
        table.add_row(recipe, description)
    Console().print(table)
    say("The settings of one: genevae recipes NAME")


def _settings(name: str) -> None:
    """Print the settings of a recipe, one paragraph each, so that nothing is cut where the terminal is narrow."""
    from genevae.recipes.describe import settings_of
    from genevae.recipes.registry import recipe_named

    recipe = recipe_named(name)
    say(f"{recipe.name}: {recipe.description}", "Change a setting with --setting NAME=VALUE.")
    part = ""
    for each in settings_of(recipe):
        if each.part != part:
            part = each.part
            say("", part)
        say(f"  {each.name} = {_shown(each.default)}  ({each.valid})")
        if each.meaning:
            say(f"      {each.meaning}")


def _shown(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool | None) else str(value)
