"""A fit that starts from a trained model: its settings, and its weights where they fit."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from genevae.data.schema import Schema
from genevae.errors import GeneError, shorten
from genevae.recipes.registry import Recipe, recipe_named
from genevae.runs.trained import load, recipe_in
from genevae.training.settings import flat

__all__ = ["recipe_like", "transfer_weights"]

VERSION = re.compile(r"^(ENS[A-Z]*G\d{6,})\.\d+$", re.IGNORECASE)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Of batch norm, which belong to its weights."""


def recipe_like(name: str | None, run: str | Path) -> Recipe:
    """Return a recipe whose model has the settings of a trained one, as far as both have them.

    Parameters
    ----------
    name
        Of the recipe; by default that of the run, with all of its settings.
    run
        The folder of the trained model.
    """
    trained = recipe_in(Path(run))
    if name is None:
        return trained
    recipe = recipe_named(name)
    shared = flat(recipe.model).keys() & flat(trained.model).keys()
    return recipe.edit({key: value for key, value in flat(trained.model).items() if key in shared})


@torch.no_grad()
def transfer_weights(module: nn.Module, schema: Schema, run: str | Path) -> dict[str, int | str]:
    """Copy weights of a trained model where name and shape fit; those with a row per gene are matched by gene.

    Genes that the trained model lacks, and parts that it does not have, keep their fresh weights.

    Parameters
    ----------
    module, schema
        The new model, changed in place, and its genes.
    run
        The folder of the trained model.

    Returns
    -------
    dict
        The run, the numbers of tensors that were copied and of all, and the number of genes that were matched.

    Raises
    ------
    GeneError
        If the two have no gene in common.
    RunError
        If the folder cannot be opened.
    """
    trained = load(run)
    place_of = {_unversioned(gene): at for at, gene in enumerate(trained.schema.genes)}
    place_of |= {gene: at for at, gene in enumerate(trained.schema.genes)}
    old_g = torch.tensor([place_of.get(gene, place_of.get(_unversioned(gene), -1)) for gene in schema.genes])
    known_g = old_g >= 0
    if not known_g.any():
        raise GeneError(
            f"{run} has none of these genes: it has {shorten(trained.schema.genes, 3)}, and the data have "
            f"{shorten(schema.genes, 3)}. Give data with the same kind of gene names, or train from the start."
        )
    is_weight = {name for name, _ in module.named_parameters()}
    old, copied, n = trained.module.state_dict(), 0, 0
    for name, tensor in module.state_dict().items():
        if name not in is_weight and not name.endswith(STATISTICS):
            continue
        n += 1
        if (found := old.get(name)) is None or found.ndim != tensor.ndim:
            continue
        has_gene_rows = tensor.shape[:1] == (len(schema.genes),) and found.shape[:1] == (len(trained.schema.genes),)
        if has_gene_rows and found.shape[1:] == tensor.shape[1:]:
            tensor[known_g] = found.to(tensor)[old_g[known_g]]
        elif found.shape == tensor.shape:
            tensor.copy_(found)
        else:
            continue
        copied += 1
    return {"run": str(run), "weights": copied, "of": n, "genes": int(known_g.sum())}


def _unversioned(gene: str) -> str:
    found = VERSION.match(gene)
    return found[1] if found else gene
