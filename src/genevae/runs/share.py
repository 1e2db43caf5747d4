"""A model to give away: what it learned, without the cells that it learned from."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genevae.calls import public
from genevae.cells import Condition
from genevae.data.schema import Schema
from genevae.errors import RunError, warn
from genevae.models.reference import Reference
from genevae.recipes.registry import require_reproducible
from genevae.responses.answer import Responses
from genevae.runs.card import methods_paragraph, model_card
from genevae.runs.config_file import write_config
from genevae.runs.load import load
from genevae.runs.manifest import require_place, write_folder
from genevae.runs.trained import Trained, facts_of, files_of

__all__ = ["LEAST_CELLS", "share"]

LEAST_CELLS = 10
"""Cells that a number of a shared folder is a mean over, at least."""
CARD = "README.md"
SETTINGS = frozenset({
    "recipe", "condition", "continuous", "batch", "control", "combine", "context", "group", "view", "unlabelled",
    "validation", "test", "stratify", "split_by", "hold_out", "balance", "seed", "setting",
})  # fmt: skip
"""Options of fit that name no file and no folder."""
FACTS = frozenset({"versions", "seed", "best_epoch", "ended"})
"""Entries of the manifest that say nothing of a machine or a person."""


@public
def share(model: Trained | str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write a folder of a model for others: without cells, and without the machine that it was trained on.

    Left out are names and hashes of cells, their posteriors, label models that are made of training cells, the log, the
    command, the host and all paths. In place of the posteriors of cells are those of groups of ten cells or more, of
    the same categories and the same cluster: generation and support use them. Profiles of states with fewer cells are
    left out. Names of genes, obs columns and categories are part of the model and stay: rename them before training if
    they name people. A model card is added.

    Parameters
    ----------
    model
        A trained model, or the folder of a run.
    out
        The folder to write.
    overwrite
        Whether to replace an existing folder.

    Returns
    -------
    Path
        The folder. :func:`~genevae.runs.load.load` opens it, also from an address such as ``https://…``.

    Raises
    ------
    RunError
        If the folder exists, or there are too few training cells.
    """
    opened = model if isinstance(model, Trained) else load(model)
    require_place(Path(out), overwrite, [opened])
    require_reproducible(opened.recipe)
    shared = replace(
        opened,
        schema=_without_groups(opened.schema),
        reference=_grouped(opened.reference, opened.schema),
        responses=None if opened.responses is None else _of_many(opened.responses),
        labels=None,
        split=pd.Series(dtype=object, name="part"),
        contents=pd.Series(dtype=object),
        fields=pd.DataFrame(),
        facts=_facts(opened),
        folder=None,
    )
    card = "\n".join(_card(replace(opened, facts=shared.facts), opened))
    files = {**files_of(shared), CARD: lambda file: file.write_text(card, encoding="utf-8")}
    write_folder(Path(out), files, facts_of(shared), overwrite)
    return Path(out)


def _facts(model: Trained) -> dict[str, Any]:
    settings = tomllib.loads(str(model.facts.get("config", "")))
    kept = {name: value for name, value in settings.items() if name in SETTINGS}
    if str(settings.get("genes")).isdigit():
        kept["genes"] = int(settings["genes"])
    return {
        **{name: value for name, value in model.facts.items() if name in FACTS},
        "data": Path(str(model.facts.get("data", "unknown data"))).name,
        "parts": model.parts,
        "shared": True,
        "config": write_config(dict(sorted(kept.items(), key=lambda each: isinstance(each[1], Mapping)))),
    }


def _without_groups(schema: Schema) -> Schema:
    """Return the schema without the categories that only made pairs of cells, which may be names of samples."""
    return schema if schema.group is None else replace(schema, group=replace(schema.group, categories=()))


def _grouped(reference: Reference, schema: Schema) -> Reference:
    """Return posteriors of groups of cells, with the first two moments of the groups.

    Raises
    ------
    RunError
        If no group has enough cells.
    """
    condition = reference.condition
    codes = {c.name: condition.codes[c.name] for c in schema.categorical}
    size_n = condition.size_n1[:, 0].numpy()
    means, scales, sizes, rows = [], [], [], []
    for row_m in _blocks(np.column_stack([*(each.numpy() for each in codes.values()), *_levels(reference)]), size_n):
        mean_mk, scale_mk = reference.mean_nk[row_m].double(), reference.scale_nk[row_m].double()
        means.append(mean_mk.mean(0))
        scales.append((mean_mk.var(0, correction=0) + scale_mk.square().mean(0)).sqrt())
        sizes.append(condition.size_n1[row_m].double().log().mean(0).exp())
        rows.append(row_m)
    if not rows:
        raise RunError(
            f"This model keeps {reference.n_cells:,} training cells, no {LEAST_CELLS} of which have the same "
            "categories: each would be known again. Train with fewer categories, or on more cells."
        )
    if (n_left := reference.n_cells - sum(map(len, rows))) > 0:
        warn(f"{n_left:,} training cells are in groups of fewer than {LEAST_CELLS}, and are left out.")
    first = torch.tensor([int(row_m[0]) for row_m in rows])
    values = {
        name: torch.stack([value_n[row_m].mean() for row_m in rows]) for name, value_n in condition.values.items()
    }
    shared = Condition(torch.stack(sizes).float(), {name: code_n[first] for name, code_n in codes.items()}, values)
    return replace(
        reference,
        mean_nk=torch.stack(means).float(),
        scale_nk=torch.stack(scales).float(),
        condition=shared,
        clusters=None,
    )


def _levels(reference: Reference) -> list[NDArray[Any]]:
    """Return the levels of each number that has few, such as doses, and the clusters: the last column."""
    found = []
    for value_n in reference.condition.values.values():
        level, index_n = np.unique(value_n.numpy(), return_inverse=True)
        if len(level) <= reference.n_cells / LEAST_CELLS:
            found.append(index_n)
    cluster_n = np.zeros(reference.n_cells) if reference.clusters is None else reference.clusters.cluster_n.numpy()
    return [*found, cluster_n]


def _blocks(key_nf: NDArray[Any], size_n: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of blocks of cells with the same key and a similar size; small ones disregard the last column."""
    left = np.arange(len(key_nf))
    for keys_nf in (key_nf, key_nf[:, :-1]):
        _, group_n = np.unique(keys_nf[left], axis=0, return_inverse=True)
        rest = []
        for group in range(int(group_n.max(initial=-1)) + 1):
            row_m = left[group_n.reshape(-1) == group]
            if len(row_m) < LEAST_CELLS:
                rest.append(row_m)
                continue
            ordered = row_m[np.argsort(size_n[row_m], kind="stable")]
            yield from np.array_split(ordered, len(ordered) // LEAST_CELLS)
        left = np.concatenate([*rest, np.empty(0, np.int64)])


def _of_many(responses: Responses) -> Responses | None:
    """Return the profiles of states with enough cells; None where there are none."""
    profiles = responses.profiles
    kept = np.flatnonzero(profiles.n_m >= LEAST_CELLS)
    if not len(kept):
        return None
    arrays = {name: getattr(profiles, name)[kept] for name in ("n_m", "mean_mg", "variance_mg", "latent_mk")}
    return replace(responses, profiles=replace(profiles, keys=tuple(profiles.keys[m] for m in kept), **arrays))


def _card(model: Trained, original: Trained) -> Iterator[str]:
    """Yield the lines of the model card."""
    yield f"# A model of gene expression: {model.recipe.name}"
    for topic, text in model_card(model).items():
        yield f"\n## {topic}\n\n{text}"
    yield f"\n## Methods\n\n{methods_paragraph(model)}"
    yield (
        '\n## How to use it\n\n```python\nimport genevae as gv\n\nmodel = gv.load("this folder, or its address")\n'
        'cells = gv.embed(model, "cells.h5ad")\n```'
    )
    n_groups = original.reference.n_cells
    yield (
        f"\n## What is not in this folder\n\nNo cell, no name of a cell, no posterior of a cell. Of the {n_groups:,} "
        f"training cells that the model kept there are means over {LEAST_CELLS} or more. Largest counts of genes are "
        "those of single cells. Nothing in it is executed when it is opened. `manifest.json` has the sha256 of each "
        "file.\n"
    )
