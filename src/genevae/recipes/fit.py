"""Fit a recipe to data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from genevae.data.fields import field_specifications
from genevae.data.gene_lists import read_gene_list
from genevae.data.genes import match_genes
from genevae.data.inspect import check_likelihood, probe
from genevae.data.kind import Kind
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder, balanced_weights
from genevae.data.schema import Schema, obs_column
from genevae.data.sources import Files, open_source, settle
from genevae.data.sources.source import Source, fingerprint
from genevae.data.split import Split, group_split, held_out_split, random_split, stratified_split
from genevae.data.variable import highly_variable
from genevae.errors import DataError, RecipeError, nearest
from genevae.recipes import Recipe, recipe_class, recipe_name
from genevae.recipes.config import write_config
from genevae.recipes.trained import Trained
from genevae.training.loop import train
from genevae.training.memory import calibrate, remember
from genevae.training.settings import default_epochs

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["fit"]

MAX_REFERENCE = 20_000
"""Training cells whose posteriors are kept with the model."""
MAX_CALIBRATION = 20_000
"""Validation cells that temperatures are fitted on."""


def fit(
    data: AnnData | Source | Files | str | Path,
    *,
    recipe: str | Recipe = "nb",
    condition: Sequence[str] = (),
    continuous: Sequence[str] = (),
    batch: str | None = None,
    control: Mapping[str, str] | None = None,
    combine: Sequence[str] = (),
    group: str | None = None,
    genes: int | str | Path | Sequence[str] | None = None,
    layer: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    n_latent: int | None = None,
    hidden: Sequence[int] | None = None,
    learning_rate: float | None = None,
    setting: Mapping[str, Any] | None = None,
    validation: float = 0.1,
    test: float = 0.0,
    stratify: str | None = None,
    split_by: str | None = None,
    hold_out: Mapping[str, str] | None = None,
    balance: str | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Trained:
    """Train a model of these data.

    Parameters
    ----------
    data
        A file, a folder or a pattern of files of any known format; an AnnData object; or Files, a path with more words
        on how to read it.
    recipe
        The method; `genevae recipes` lists them.
    condition
        Categorical obs columns that the model is given, such as cell type or perturbation.
    continuous
        Numeric obs columns that the model is given, such as a dose.
    batch
        The obs column of the technical batch; the model is given it too.
    control
        The reference level of a condition, as FIELD=VALUE.
    combine
        Conditions whose categories may be combinations: A+B is then the sum of A and B, also where no cell has it.
    group
        The obs column that makes two cells a pair, for recipes that compare pairs; the model is not given it.
    genes
        Genes to model: the number of highly variable ones, or a file with one name per line; all by default. Ensembl
        ids match with or without their version, and symbols where the data have them.
    layer
        The layer that holds the expression, or "raw"; X by default.
    epochs
        Passes over the training cells at most; by default 400, and fewer beyond 20,000 cells.
    batch_size
        Cells in one step, in place of the recipe's own number.
    n_latent
        Latent dimensions, in place of the recipe's own number.
    hidden
        Width of each hidden layer, as in 512,256, in place of the recipe's own.
    learning_rate
        Of Adam, in place of the recipe's own.
    setting
        Any other setting of the recipe, as NAME=VALUE.
    validation
        Share of the cells that is not trained on and chooses the best weights.
    test
        Share of the cells that is kept away from training altogether; split.csv names them.
    stratify
        An obs column whose proportions are kept in every part.
    split_by
        An obs column, such as the donor, none of whose groups may be in two parts.
    hold_out
        Keep away from training all cells with this combination, as FIELD=VALUE.
    balance
        An obs column whose categories are drawn equally often in training.
    seed
        Of the split, the initial weights, the order of cells and the noise. Same seed, same bits.
    device
        auto, cpu, cuda or mps.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Trained
        The model with its best weights, and all that its tasks need.

    Raises
    ------
    DataError
        If the data cannot be opened, or lack a column or genes that were asked for.
    RecipeError
        If the recipe or a setting is unknown, or the recipe cannot describe such data.
    TrainingError
        If the loss stays not finite.

    Examples
    --------
    >>> import numpy as np, anndata as ad, genevae as gv
    >>> counts = np.random.default_rng(0).poisson(2.0, (60, 20)).astype("float32")
    >>> model = gv.fit(ad.AnnData(counts), epochs=2, progress=False)
    >>> gv.embed(model, ad.AnnData(counts)).obsm["X_genevae"].shape
    (60, 10)
    """
    given = {k: v for k, v in locals().items() if k not in {"data", "recipe", "setting", "device", "progress"}}
    chosen = _choose_recipe(recipe, given, setting or {})
    name = recipe_name(chosen)
    where = resolve_device(device)
    files = data if isinstance(data, Files) else None
    keep = files.keep if files else "auto"
    source = settle(open_source(data, layer), keep)
    kind = probe(source)
    check_likelihood(kind, chosen.needs_counts, name, source.name)
    split = _split(source, validation, test, stratify, split_by, hold_out, seed)
    schema = Schema.fit(
        (),
        source.obs,
        kind,
        condition=condition,
        continuous=continuous,
        batch=batch,
        control=control,
        combine=combine,
        group=group,
        unknown=chosen.needs_unknown or chosen.category_dropout > 0,
    )
    source = settle(_with_genes(source, genes, kind, split), keep)
    schema = schema.with_genes(source.genes, missing=source.panels is not None)
    schema = schema.with_transform(chosen.transform(kind).fit(Loader(source, schema, InOrder(split.train, 512))))
    config = {**_place(data), "recipe": name, **_config(given)}
    facts = {
        "seed": seed,
        "data": source.name,
        "fingerprint": fingerprint(source),
        "config": write_config({**config, "setting": chosen.to_json()}),
    }
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        return _train(source, schema, chosen, split, balance, seed, where, progress, facts)


def _train(
    source: Source,
    schema: Schema,
    recipe: Recipe,
    split: Split,
    balance: str | None,
    seed: int,
    device: torch.device,
    progress: bool,
    facts: dict[str, Any],
) -> Trained:
    """Build, train, and learn what depends on the final weights."""
    loaders = _loaders(source, schema, recipe, split, balance, seed)
    n_epochs = recipe.epochs or default_epochs(loaders.training.sampler.n_cells)
    objective = recipe.objective(schema, n_epochs).to(device)
    module = recipe.build(schema).to(device)
    if module.size is not None:
        module.size.fit(loaders.reference)
    history = train(
        module, objective, loaders.training, loaders.validation, recipe, device=device, progress=progress,
    )  # fmt: skip
    return Trained(
        module.eval(),
        recipe,
        schema,
        remember(module, loaders.reference, device),
        calibrate(module, loaders.training, loaders.calibration, device),
        history.to_frame(),
        _name_parts(source.obs.index, split),
        {**facts, "best_epoch": history.best_epoch + 1, "ended": history.ended},
        fields=field_specifications(source.obs),
    )


@dataclass(frozen=True)
class _Loaders:
    training: Loader
    validation: Loader
    calibration: Loader
    reference: Loader


def _loaders(source: Source, schema: Schema, recipe: Recipe, split: Split, balance: str | None, seed: int) -> _Loaders:
    """Make minibatches of the training cells, of those that validate, and of the samples that are looked at once."""
    rng = np.random.default_rng(seed)
    weights = None if balance is None else balanced_weights(obs_column(source.obs, balance).iloc[split.train])
    group_n = _groups(source, schema)
    return _Loaders(
        training=Loader(source, schema, recipe.training_sampler(split.train, group_n, weights, seed)),
        validation=Loader(source, schema, recipe.validation_sampler(split.validation, group_n, seed)),
        calibration=Loader(
            source, schema, InOrder(rng.permutation(_draw(split.validation, MAX_CALIBRATION, rng)), 512)
        ),
        reference=Loader(source, schema, InOrder(_draw(split.train, MAX_REFERENCE, rng), 512)),
    )


def _groups(source: Source, schema: Schema) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Return the group of every cell, where a group was named; −1 where a cell has none."""
    if schema.group is None:
        return None
    code_n = schema.group.encode(obs_column(source.obs, schema.group.name)).numpy()
    return np.where(code_n < len(schema.group.categories), code_n, -1)


def resolve_device(name: str) -> torch.device:
    """Choose where to compute.

    Raises
    ------
    RecipeError
        If there is no such device here.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    kind = name.split(":", maxsplit=1)[0]
    if not present.get(kind, False):
        raise RecipeError(f"There is no device '{name}' here. {nearest(name, [k for k in present if present[k]])}")
    return torch.device(name)


def _choose_recipe(recipe: str | Recipe, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Recipe:
    chosen = recipe_class(recipe)() if isinstance(recipe, str) else recipe
    overrides = {name: given[name] for name in ("epochs", "batch_size", "n_latent", "hidden", "learning_rate")}
    return chosen.edit({**settings, **{name: value for name, value in overrides.items() if value is not None}})


def _config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the config file keeps of the arguments; the recipe's own settings stand in its table."""
    own = {"epochs", "batch_size", "n_latent", "hidden", "learning_rate"}
    kept = {name: value for name, value in given.items() if name not in own}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def _place(data: object) -> dict[str, Any]:
    """Return what the config file keeps of where the data are and how they were read."""
    if isinstance(data, Files):
        words = {name: str(word) if isinstance(word, Path) else word for name, word in asdict(data).items()}
        return {"data": words.pop("path"), **words}
    return {"data": str(data) if isinstance(data, str | Path) else None}


def _with_genes(source: Source, genes: int | str | Path | Sequence[str] | None, kind: Kind, split: Split) -> Source:
    """Choose the genes to model."""
    if genes is None:
        return source
    if isinstance(genes, int) or (isinstance(genes, str) and genes.isdigit()):
        flavor: Literal["seurat_v3", "seurat"] = "seurat_v3" if kind.is_count else "seurat"
        return match_genes(source, highly_variable(source, int(genes), rows=split.train, flavor=flavor))
    listed = read_gene_list(genes) if isinstance(genes, str | Path) else list(genes)
    return match_genes(source, listed)


def _split(
    source: Source,
    validation: float,
    test: float,
    stratify: str | None,
    split_by: str | None,
    hold_out: Mapping[str, str] | None,
    seed: int,
) -> Split:
    ways = {"stratify": stratify, "split_by": split_by, "hold_out": hold_out}
    chosen = [name for name, value in ways.items() if value]
    if len(chosen) > 1:
        raise DataError(f"Cells can be split in one way only, and {' and '.join(chosen)} were given. Choose one.")
    if hold_out:
        return held_out_split(source.obs, hold_out, validation, seed)
    if split_by:
        return group_split(obs_column(source.obs, split_by), validation, test, seed)
    if stratify:
        return stratified_split(obs_column(source.obs, stratify), validation, test, seed)
    return random_split(len(source), validation, test, seed)


def _draw(rows: np.ndarray[Any, np.dtype[np.int64]], n: int, rng: np.random.Generator) -> Any:
    return rows if len(rows) <= n else np.sort(rng.choice(rows, n, replace=False))


def _name_parts(names: pd.Index[Any], split: Split) -> pd.Series[str]:
    part = pd.Series("training", index=names, name="part", dtype=object)
    part.iloc[split.validation] = "validation"
    part.iloc[split.test] = "test"
    return part
