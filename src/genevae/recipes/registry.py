"""All recipes by name. To add one: a file with a recipe, its line in :data:`RECIPES`, and its description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genevae.errors import RecipeError, nearest
from genevae.recipes.adversarial import ADVERSARIAL
from genevae.recipes.bulk import BULK, BULK_LARGE
from genevae.recipes.contrastive import CONTRASTIVE
from genevae.recipes.convolutional import CONVOLUTIONAL, CONVOLUTIONAL_NB
from genevae.recipes.cycle import CYCLE
from genevae.recipes.dose import DOSE
from genevae.recipes.gaussian import CONDITIONAL, GAUSSIAN
from genevae.recipes.nb import NB, POISSON, ZINB
from genevae.recipes.programs import LINEAR, PROGRAMS
from genevae.recipes.recipe import Recipe
from genevae.recipes.semi import SEMI

__all__ = ["RECIPES", "Recipe", "current_settings", "recipe_named", "recipe_of", "require_reproducible"]

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        NB,
        ZINB,
        POISSON,
        GAUSSIAN,
        CONDITIONAL,
        BULK,
        BULK_LARGE,
        CONTRASTIVE,
        ADVERSARIAL,
        SEMI,
        LINEAR,
        PROGRAMS,
        DOSE,
        CYCLE,
        CONVOLUTIONAL,
        CONVOLUTIONAL_NB,
    )
}


def recipe_named(name: str) -> Recipe:
    """Return a recipe by name.

    Raises
    ------
    RecipeError
        With the valid names and the nearest.
    """
    name = name if name in RECIPES else name.lower()
    if name not in RECIPES:
        raise RecipeError(f"There is no recipe '{name}'. {nearest(name, RECIPES)}")
    return RECIPES[name]


_WITHOUT_USE = {"cycle": {"norm", "dropout", "embedding_widths", "encode_condition", "prior", "size"}}
"""Settings that earlier versions wrote and that had no effect, by recipe."""


def current_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a file holds, without those of an earlier version that had no effect."""
    return {key: value for key, value in settings.items() if key not in _WITHOUT_USE.get(name, ())}


def recipe_of(name: str, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a file describes by its name and settings.

    Raises
    ------
    RecipeError
        If there is no such recipe or setting.
    """
    return recipe_named(name).edit(current_settings(name, settings))


def require_reproducible(recipe: Recipe) -> None:
    """Raise if a recipe is not that of its name with other settings, which is all that a file keeps of it.

    Raises
    ------
    RecipeError
        With what makes it so.
    """
    try:
        is_known = recipe_named(recipe.name).edit(recipe.settings()) == recipe
    except RecipeError:
        is_known = False
    if not is_known:
        raise RecipeError(
            f"A file keeps the name and the settings of a recipe, and '{recipe.name}' with these settings is another "
            "one. Give yours a name, and add it wherever its models are opened: "
            'genevae.recipes.registry.RECIPES["mine"] = dataclasses.replace(recipe, name="mine").'
        )
