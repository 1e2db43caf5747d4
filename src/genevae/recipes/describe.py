"""Every setting of a recipe, with its default, its valid values and its meaning."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from genevae.recipes.recipe import Recipe

__all__ = ["Setting", "meanings", "settings_of"]


@dataclass(frozen=True)
class Setting:
    """A setting of a recipe.

    Parameters
    ----------
    name
        What ``--setting NAME=VALUE`` takes.
    part
        What it belongs to: model, objective or training.
    default
        Its value in the recipe.
    valid
        Its type and range, or its values.
    meaning
        What it does.
    """

    name: str
    part: str
    default: Any
    valid: str
    meaning: str


def settings_of(recipe: Recipe) -> list[Setting]:
    """Return every setting of a recipe, in the order of :meth:`Recipe.settings`."""
    return [*_of(recipe.model, "model"), *_of(recipe.objective, "objective"), *_of(recipe.training, "training")]


def _of(config: Any, part: str) -> Iterator[Setting]:
    """Yield the settings of a dataclass, and those of dataclasses in it."""
    hints, meaning_of = typing.get_type_hints(type(config)), meanings(type(config))
    for each in fields(config):
        value = getattr(config, each.name)
        if is_dataclass(value):
            yield from _of(value, part)
            continue
        limits = each.metadata.get("range")
        valid = _type_name(hints[each.name]) + (f", {limits}" if limits else "")
        yield Setting(each.name, part, value, valid, meaning_of.get(each.name, ""))


def _type_name(hint: Any) -> str:
    """Return a type as users know it."""
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    alternatives = [kind for kind in typing.get_args(hint) if kind is not type(None)] or [hint]
    if hint == tuple[int, ...]:
        return "integers with commas"
    if type(None) in typing.get_args(hint):
        return f"{_type_name(alternatives[0])} or none"
    names = {int: "integer", float: "number", bool: "true or false", str: "text"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def meanings(documented: Any) -> dict[str, str]:
    """Return what a docstring says of each parameter; for a dataclass, with those of its bases."""
    found: dict[str, str] = {}
    for each in reversed(getattr(documented, "__mro__", (documented,))):
        _, _, section = inspect.cleandoc(each.__doc__ or "").partition("Parameters\n----------\n")
        section = re.split(r"\n\n\w+\n-{3,}\n", section)[0]
        for names, text in re.findall(r"^(\w+(?:, \w+)*)\n((?:    .*\n?|\n)+)", section, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), _plain(text))
    return found


def _plain(text: str) -> str:
    """Return a text of a docstring without markup, on one line."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", " ".join(text.split()))
    return text.replace("``", "")
