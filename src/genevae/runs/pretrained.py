"""A fit that starts from a trained model: its settings, and its weights where they fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from genevae.data.schema import Schema
from genevae.errors import GeneError, shorten
from genevae.nn.conditioning import Conditioning
from genevae.recipes.registry import Recipe, recipe_named
from genevae.runs.trained import Trained, load_finished, recipe_in
from genevae.training.settings import flat

__all__ = ["recipe_like", "transfer_weights"]

VERSION = re.compile(r"^(ENS[A-Z]*G\d{6,})\.\d+$", re.IGNORECASE)
TABLE = re.compile(r"(.*\bembeddings\.)(\d+)\.weight")
"""The name of the embeddings of a categorical covariate, with its place among them."""
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
    """Copy weights of a trained model where name and shape fit.

    Those with a row per gene are matched by gene, and embeddings of categories by covariate and category. Genes and
    categories that the trained model lacks, and parts that it does not have, keep their fresh weights. Where the two
    have other categories, so do other parts with a row per category.

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
    trained = load_finished(run)
    place_of = {_unversioned(gene): at for at, gene in enumerate(trained.schema.genes)}
    place_of |= {gene: at for at, gene in enumerate(trained.schema.genes)}
    old_g = torch.tensor([place_of.get(gene, place_of.get(_unversioned(gene), -1)) for gene in schema.genes])
    known_g = old_g >= 0
    if not known_g.any():
        raise GeneError(
            f"{run} has none of these genes: it has {shorten(trained.schema.genes, 3)}, and the data have "
            f"{shorten(schema.genes, 3)}. Give data with the same kind of gene names, or train from the start."
        )
    sizes = {len(c.labels) for c in schema.categorical} if schema.categorical != trained.schema.categorical else set()
    is_weight = {name for name, _ in module.named_parameters()}
    old, copied, n = trained.module.state_dict(), 0, 0
    for name, tensor in module.state_dict().items():
        if name not in is_weight and not name.endswith(STATISTICS):
            continue
        n += 1
        old_name, rows_c = _embeddings(name, module, schema, trained)
        if (found := old.get(old_name)) is None or found.ndim != tensor.ndim:
            continue
        has_gene_rows = tensor.shape[:1] == (len(schema.genes),) and found.shape[:1] == (len(trained.schema.genes),)
        rows = rows_c if rows_c is not None else old_g if has_gene_rows else None
        if rows is not None and found.shape[1:] == tensor.shape[1:]:
            tensor[rows >= 0] = found.to(tensor)[rows[rows >= 0]]
        elif rows is None and found.shape == tensor.shape and not {*tensor.shape[:1]} & sizes:
            tensor.copy_(found)
        else:
            continue
        copied += 1
    return {"run": str(run), "weights": copied, "of": n, "genes": int(known_g.sum())}


def _embeddings(name: str, module: nn.Module, schema: Schema, old: Trained) -> tuple[str, Tensor | None]:
    """Return the name of the same weights in the trained model, and for embeddings the old row of each category."""
    place = TABLE.fullmatch(name)
    if place is None:
        return name, None
    new, before = (_fields_of(each, place[1]) for each in (module, old.module))
    field = new[int(place[2])]
    if field not in before:
        return "", None
    row_of = {label: code for code, label in enumerate(old.schema.categorical_field(field).labels)}
    rows = torch.tensor([row_of.get(label, -1) for label in schema.categorical_field(field).labels])
    return f"{place[1]}{before.index(field)}.weight", rows


def _fields_of(module: nn.Module, embeddings: str) -> Sequence[str]:
    """Return the categorical fields that a module embeds."""
    try:
        part = module.get_submodule(embeddings.removesuffix("embeddings.").removesuffix("."))
    except AttributeError:
        return ()
    return part.categorical if isinstance(part, Conditioning) else ()


def _unversioned(gene: str) -> str:
    found = VERSION.match(gene)
    return found[1] if found else gene
