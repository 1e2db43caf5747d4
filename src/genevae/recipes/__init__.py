"""The methods, by name. To add one: a file with a frozen dataclass, and a line here."""

from __future__ import annotations

from genevae.errors import RecipeError, nearest
from genevae.recipes.conditional import Conditional
from genevae.recipes.gaussian import Gaussian
from genevae.recipes.nb import NB
from genevae.recipes.poisson import Poisson
from genevae.recipes.recipe import Recipe
from genevae.recipes.zinb import ZINB

__all__ = ["RECIPES", "Recipe", "recipe_class"]

RECIPES: dict[str, type[Recipe]] = {
    "nb": NB,
    "zinb": ZINB,
    "poisson": Poisson,
    "gaussian": Gaussian,
    "conditional": Conditional,
}


def recipe_class(name: str) -> type[Recipe]:
    """Return a recipe by name.

    Raises
    ------
    RecipeError
        With the valid names and the nearest.
    """
    if name not in RECIPES:
        raise RecipeError(f"There is no recipe '{name}'. {nearest(name, RECIPES)}")
    return RECIPES[name]
