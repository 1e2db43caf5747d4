"""All recipes by name. To add one: a file with a recipe, its line in :data:`RECIPES`, and its description."""

from __future__ import annotations

from genevae.errors import RecipeError, nearest
from genevae.recipes.adversarial import ADVERSARIAL
from genevae.recipes.bulk import BULK, BULK_LARGE
from genevae.recipes.contrastive import CONTRASTIVE
from genevae.recipes.convolutional import CONVOLUTIONAL, CONVOLUTIONAL_NB
from genevae.recipes.cycle import CYCLE
from genevae.recipes.dose import DOSE
from genevae.recipes.gaussian import CONDITIONAL, GAUSSIAN
from genevae.recipes.nb import NB, POISSON, ZINB
from genevae.recipes.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "recipe_named"]

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
    if name not in RECIPES:
        raise RecipeError(f"There is no recipe '{name}'. {nearest(name, RECIPES)}")
    return RECIPES[name]
