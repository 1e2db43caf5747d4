"""The methods, by name. To add one: a file with a frozen dataclass, and a line here."""

from __future__ import annotations

from genevae.errors import RecipeError, nearest
from genevae.recipes.adversarial import Adversarial
from genevae.recipes.bulk import Bulk, BulkLarge
from genevae.recipes.contrastive import ContrastiveBulk
from genevae.recipes.convolutional import Convolutional, ConvolutionalNB
from genevae.recipes.cycle import CycleRecipe
from genevae.recipes.dose import Dose
from genevae.recipes.gaussian import Conditional, Gaussian
from genevae.recipes.nb import NB, ZINB, Poisson
from genevae.recipes.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "recipe_class", "recipe_name"]

RECIPES: dict[str, type[Recipe]] = {
    "nb": NB,
    "zinb": ZINB,
    "poisson": Poisson,
    "gaussian": Gaussian,
    "conditional": Conditional,
    "bulk": Bulk,
    "bulk-large": BulkLarge,
    "contrastive": ContrastiveBulk,
    "adversarial": Adversarial,
    "dose": Dose,
    "cycle": CycleRecipe,
    "convolutional": Convolutional,
    "convolutional-nb": ConvolutionalNB,
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


def recipe_name(recipe: Recipe) -> str:
    """Return the name of a recipe.

    Raises
    ------
    RecipeError
        If it is not one of :data:`RECIPES`, so that a saved model could not be opened again.
    """
    for name, kind in RECIPES.items():
        if type(recipe) is kind:
            return name
    raise RecipeError(
        f"{type(recipe).__name__} is not among the recipes: add a line to genevae.recipes.RECIPES. "
        f"{nearest(type(recipe).__name__, RECIPES)}"
    )
