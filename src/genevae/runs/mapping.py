"""Map new cells to a trained model: only what is new in them is learned, and all else stays as it is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genevae.cells import Condition
from genevae.data.contents import contents_of, sampled_rows
from genevae.data.covariates import Categorical, category_names
from genevae.data.loader import Loader
from genevae.data.sampler import Shuffled
from genevae.data.schema import obs_column
from genevae.errors import CategoryError, DataError, GenevaeWarning, RecipeError, nearest, shorten, warn
from genevae.io.formats import open_for_model
from genevae.io.source import Source
from genevae.models.reference import Reference
from genevae.models.vae import VAE
from genevae.nn.conditioning import Conditioning
from genevae.progress import progress
from genevae.runs.manifest import require_place, write_folder
from genevae.runs.prepare import MAX_REFERENCE
from genevae.runs.trained import Trained, facts_of, files_of
from genevae.tasks.classify import classify
from genevae.tasks.condition import TargetCondition
from genevae.tasks.inference import open_cells, posteriors
from genevae.tasks.missing import with_expected_genes, with_labels
from genevae.tasks.response import evenly_spaced
from genevae.tasks.support import support_of
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions

__all__ = ["Mapped", "map_query"]

STEPS, BATCH_SIZE = 300, 256
"""Steps in which new embeddings are fitted, and cells in each."""
LEARNING_RATE, FINE_LEARNING_RATE = 0.05, 3e-4
"""Of new embeddings, and of the whole model where it is fine-tuned; both fall to zero."""
FILL_STEPS = 2
"""Times that missing genes are computed from the latent, and the latent from them, in each of these steps."""
NEW_BATCH = "query"
"""The technical batch of a query that has no column of batches."""
QUERY_FILE = "query.h5ad"
"""The file of the mapped cells in the folder of the mapped run."""


@dataclass(frozen=True)
class Mapped:
    """What :func:`map_query` returns.

    Parameters
    ----------
    query
        The query's obs with ``FIELD_predicted``, ``FIELD_probability`` and ``FIELD_unknown`` for each label, and
        ``support``; the latent in ``obsm["X_genevae"]``, and its standard deviation in ``obsm["X_genevae_scale"]``.
    model
        A trained model that knows the categories of both, and whose reference cells are of both.
    """

    query: AnnData
    model: Trained

    @property
    def obs(self) -> pd.DataFrame:
        """The table of the query's cells."""
        return self.query.obs

    @property
    def obsm(self) -> Any:
        """The latent of the query."""
        return self.query.obsm

    def __repr__(self) -> str:
        facts = self.model.facts["mapped"]
        new = "; ".join(f"{name}: {shorten(values, 3)}" for name, values in facts["new"].items())
        return f"{facts['cells']:,} cells of {facts['data']} mapped. New categories: {new or 'none'}.\n{self.query!r}"


@task  # type: ignore[arg-type]  # a task of a model that can be saved
def map_query(
    model: Trained,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    batch: str | None = None,
    labels: str | Sequence[str] | None = None,
    threshold: float = 0.5,
    unknown_above: float = 0.99,
    fine_tune: bool = False,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Mapped:
    """Map a query to a trained model, the reference.

    Categories of the query that the model does not know, such as its technical batches, get rows of their own in the
    model's embeddings. Only these rows are fitted to the query, by the bound log p(x | c) ≥ E_q[log p(x | z, c)] − KL;
    all other weights, and so the embedding of the reference, stay as they are to the last bit. Genes are matched by
    name, by Ensembl id without its version, or by the other gene names of the query; those that the query lacks are
    missing, not zero. A model that corrects its latent for the batch finds the offsets of new batches in the clusters
    of the reference.

    Parameters
    ----------
    model
        The reference.
    data
        The query.
    batch
        The query's obs column of the technical batch; by default that of the model. Without such a column, all cells
        are of one new batch, "query". A batch with the name of one of the reference is taken as the same.
    labels
        The fields to predict; by default all labels of the model. The query's own values of these fields are not used.
    threshold
        Cells whose largest probability is below this are labelled "unknown".
    unknown_above
        Cells for which more than this share of the training cells is nearer to a label are labelled "unknown".
    fine_tune
        Fit all weights to the query, from where they are, with a small learning rate. The embedding of the reference
        then changes.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step of embedding and classifying.
    seed
        Of the order of cells and the noise.
    out
        Write the mapped run to this folder, with the mapped cells as ``query.h5ad``.
    overwrite
        Whether a folder that is there already is replaced.

    Returns
    -------
    Mapped
        The mapped cells, ``query``, and the run that knows both, ``model``. ``support`` is the share of the reference
        cells that are farther from their tenth neighbour in the latent than the cell is, or, where that is less, of
        those that are farther from a label in expression: near zero where no reference cell is similar; missing after
        fine-tuning, which moves the latent.

    Raises
    ------
    CategoryError
        If a field is not a label of the model, or has new categories that cannot be learned alone.
    DataError
        If genes or columns do not fit the model.
    RunError
        If ``out`` is there already, or cannot be written.

    References
    ----------
    Lotfollahi et al., Nature Biotechnology 40:121 (2022), for new rows of frozen models; Kang et al., Nature
    Communications 12:5890 (2021), for offsets of new batches in the clusters of a reference.
    """
    if not 0 <= threshold <= 1 or not 0 <= unknown_above <= 1:
        raise DataError(f"threshold and unknown_above are shares from 0 to 1, not {threshold} and {unknown_above}.")
    fields = _labels(model, labels)
    if out is not None:
        require_place(Path(out), overwrite, [model.folder, data])
    opened = open_for_model(data, layer, model.schema.layer)
    if not len(opened):
        raise DataError(f"{opened.name} has no cells to map.")
    source = _with_batch(opened, model, batch)
    known = source.obs.assign(**opened.obs)  # the query's columns stay as they are
    source = replace(source, obs=source.obs.drop(columns=[name for name in fields if name in source.obs]))  # type: ignore[type-var]

    # The model grows by the categories that it does not know, and these are fitted.
    new = _new_categories(model, source.obs)
    grown, rows = model, dict[str, slice]()
    for name, categories in new.items():
        grown, rows = _grown(grown, name, categories, rows)
    if fine_tune and not new:
        grown = replace(model, module=_copied(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GenevaeWarning)  # labels are predicted here: missing ones need no warning
        source = with_labels(source, grown, ())
    cells = open_cells(grown, source, layer, batch_size)
    if fine_tune or rows:
        _fit(grown, cells, None if fine_tune else rows, seed)

    # The query's latent, corrected as that of the reference, and what follows from it.
    mean_nk, scale_nk, condition = posteriors(grown, cells)
    if model.correction is not None and model.schema.batch in new:
        code_n, n_batches = condition.codes[str(model.schema.batch)], grown.schema.n_categories[str(model.schema.batch)]
        grown = replace(grown, correction=model.correction.with_batches(mean_nk, code_n, n_batches))
    z_nk = _corrected(grown, mean_nk, condition)
    # After fine-tuning, the latents that the reference keeps are those of the weights before.
    obs, support_n = known, np.full(len(z_nk), np.nan) if fine_tune else _support(grown, z_nk)
    for field in fields:
        predicted = _predicted(grown, source, field, threshold, unknown_above, batch_size, seed)
        support_n = np.minimum(support_n, 1 - predicted[f"{field}_unknown"])
        obs = obs.assign(**predicted)
    obs["support"] = support_n
    obsm = {"X_genevae": z_nk.numpy(), "X_genevae_scale": scale_nk.numpy()}
    facts = {"data": source.name, "cells": len(source), "new": new, "fine_tuned": fine_tune}
    mapped = Mapped(_adata(obs, obsm), _joined(grown, cells.source, mean_nk, scale_nk, condition, facts))
    if out is not None:
        files = {**files_of(mapped.model), QUERY_FILE: lambda file: _write(file, obs, obsm)}
        write_folder(Path(out), files, facts_of(mapped.model), overwrite)
        mapped = replace(mapped, model=replace(mapped.model, folder=Path(out).absolute()))
    return mapped


def _labels(model: Trained, given: str | Sequence[str] | None) -> list[str]:
    """Return the fields to predict."""
    known = [] if model.labels is None else list(model.labels.fields)
    names = known if given is None else [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in known:
            raise CategoryError(f"'{name}' is not a label of this model. {nearest(name, known)}")
    return names


def _with_batch(source: Source, model: Trained, batch: str | None) -> Source:
    """Return the query with its technical batch under the model's name."""
    name = model.schema.batch
    if name is None:
        if batch is not None:
            raise CategoryError(
                f"This model has no technical batch, so '{batch}' cannot be mapped. Leave batch out, or train the "
                "reference with --batch FIELD."
            )
        return source
    if batch is None and name not in source.obs:
        warn(f"{source.name} has no column '{name}': its cells are taken as one new batch, '{NEW_BATCH}'.")
        column = pd.Series(NEW_BATCH, index=source.obs.index, dtype=object)
    else:
        column = obs_column(source.obs, batch or name).astype(object)
        missing = column.isna().to_numpy()
        if missing.any():
            raise CategoryError(
                f"Column '{batch or name}' is empty in {int(missing.sum()):,} of {len(column):,} cells of "
                f"{source.name}. Fill in their batch, or leave these cells out."
            )
    return replace(source, obs=source.obs.assign(**{name: column}))  # type: ignore[type-var]


def _new_categories(model: Trained, obs: pd.DataFrame) -> dict[str, list[str]]:
    """Return the categories of each field that the model does not know, of those that the query has."""
    found = {}
    for field in model.schema.categorical:
        if field.name in obs:
            names = category_names(obs_column(obs, field.name)).dropna()
            new = sorted(set(map(field.canonical, names.unique())) - set(field.labels) - {""})
            if new:
                found[field.name] = new
    return found


def _grown(
    model: Trained, name: str, new: Sequence[str], rows: Mapping[str, slice]
) -> tuple[Trained, dict[str, slice]]:
    """Return the model with more categories of a field, and the new rows of each of its tensors.

    New rows begin as the row of the unknown category, where there is one, or else as the mean of the others.
    """
    field, schema = model.schema.categorical_field(name), model.schema
    at, n = len(field.categories), len(new)
    _require_plain_table(model, field, new)
    larger = replace(field, categories=(*field.categories, *new))
    nested = tuple(
        replace(each, outer_c=(*each.outer_c, *[-1] * n)) if each.inner == name else each for each in schema.nested
    )
    fields = tuple(larger if each is field else each for each in schema.categorical)
    schema = replace(schema, categorical=fields, nested=nested)
    recipe = model.recipe
    if "embedding_widths" in recipe.settings():  # which otherwise depend on the number of categories
        recipe = recipe.edit({"embedding_widths": _widths(model)})
    device = next(model.module.parameters()).device
    module, old, rows = recipe.build(schema).to(device).eval(), model.module.state_dict(), dict(rows)
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            found = old.get(key)
            if found is not None and found.shape == tensor.shape:
                tensor.copy_(found)
            elif found is not None and tensor.ndim and tensor.shape == (len(found) + n, *found.shape[1:]):
                tensor[:at], tensor[at + n :] = found[:at], found[at:]
                tensor[at : at + n] = found[at] if len(found) > at else found[:at].mean(0)
                rows[key] = slice(at, at + n)
            else:
                raise RecipeError(
                    f"The recipe {recipe.name} has more than a row for each category of '{name}' ({key}), so that "
                    f"{shorten(new)} cannot be learned alone. Train on instead: genevae fit QUERY --from RUN --out NEW."
                )
    condition = model.reference.condition
    if field.unknown:
        code_n = condition.codes[name]
        condition = condition.replace({name: torch.where(code_n == at, at + n, code_n)})
    reference = replace(model.reference, condition=condition)
    return replace(model, module=module, recipe=recipe, schema=schema, reference=reference), rows


def _require_plain_table(model: Trained, field: Categorical, new: Sequence[str]) -> None:
    """Raise where the embedding of a category is made of those of others, which would then change."""
    for part in model.module.modules():
        if isinstance(part, Conditioning) and field.name in part.categorical:
            if isinstance(part.embeddings[part.categorical.index(field.name)], nn.Embedding):
                continue
            raise CategoryError(
                f"The categories of '{field.name}' are made of each other (combine or pool_nested) or of vectors "
                f"(embedding), so that the new ones, {shorten(new)}, would change the others. Leave their cells out, "
                "or train on: genevae fit QUERY --from RUN --out NEW."
            )


def _widths(model: Trained) -> tuple[int, ...]:
    """Return the width of the embedding of each condition."""
    for part in model.module.modules():
        if isinstance(part, Conditioning) and part.categorical:
            return tuple(int(table.embedding_dim) for table in part.embeddings)  # type: ignore[arg-type]
    return ()


def _copied(model: Trained) -> VAE:
    """Return a copy of the network, so that fine-tuning leaves the reference as it is."""
    device = next(model.module.parameters()).device
    module = model.recipe.build(model.schema).to(device).eval()
    module.load_state_dict(model.module.state_dict())
    return module


def _fit(model: Trained, cells: Loader, rows: Mapping[str, slice] | None, seed: int) -> None:
    """Maximise the bound on the query: over the new rows alone, or over all weights where ``rows`` is None.

    Dropout is off, and batch norm keeps its statistics.
    """
    module, settings = model.module, model.recipe.settings()
    tensors = {name: tensor for name, tensor in module.named_parameters() if rows is None or name in rows}
    if not tensors:
        return
    beta, weight = settings.get("beta", 1.0), settings.get("reconstruction_weight", 1.0)
    rate = FINE_LEARNING_RATE if rows is None else LEARNING_RATE
    optimizer = torch.optim.Adam(tensors.values(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    shuffled = cells.over(Shuffled(np.arange(len(cells.source)), min(BATCH_SIZE, len(cells.source)), seed))
    devices = [p.device for p in list(tensors.values())[:1] if p.device.type == "cuda"]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in tensors)
    with torch.random.fork_rng(devices=devices), progress("mapping", STEPS, after=2.0) as advance:
        torch.manual_seed(seed)
        for minibatch in _endless(shuffled, STEPS):
            on_device = minibatch.to(next(module.parameters()).device)
            with torch.no_grad():
                seen = with_expected_genes(module, on_device, FILL_STEPS)
            terms = module.terms(on_device, seen=seen)
            loss = (beta * terms.kl_n - weight * terms.log_px_sn.mean(0)).mean()
            gradients = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
            for (name, parameter), gradient in zip(tensors.items(), gradients, strict=True):
                parameter.grad = gradient if rows is None or gradient is None else _only(gradient, rows[name])
            if torch.isfinite(loss):
                optimizer.step()
            schedule.step()
            advance(1)
    module.requires_grad_(True)


def _only(gradient: Tensor, rows: slice) -> Tensor:
    """Return the gradient of some rows; Adam leaves rows whose gradient has always been zero as they are."""
    kept = torch.zeros_like(gradient)
    kept[rows] = gradient[rows]
    return kept


def _endless(cells: Loader, n: int) -> Iterator[Any]:
    """Yield so many minibatches, of as many epochs as needed."""
    epoch = 0
    while n > 0:
        for minibatch in cells.epoch(epoch):
            if n == 0:
                return
            yield minibatch
            n -= 1
        epoch += 1


def _corrected(model: Trained, mean_nk: Tensor, condition: Condition) -> Tensor:
    """Return latents as :func:`~genevae.tasks.embed.embed` does."""
    if model.correction is None or not model.integrates:
        return mean_nk
    return model.correction(mean_nk, condition.codes[str(model.schema.batch)])


def _support(model: Trained, z_nk: Tensor) -> NDArray[np.float64]:
    """Return how well the reference cells support each latent of the query, whatever their categories."""
    reference = model.reference
    reference = replace(reference, mean_nk=_corrected(model, reference.mean_nk, reference.condition))
    support = support_of(reference, TargetCondition({}, {}), {}, z_nk.device)
    return np.asarray(torch.cat([support.score_n(part) for part in z_nk.split(1000)]).double())


def _predicted(
    model: Trained, source: Source, field: str, threshold: float, unknown_above: float, batch_size: int, seed: int
) -> dict[str, NDArray[Any]]:
    """Return the columns of a predicted label."""
    table = classify(model, source, field, batch_size=batch_size, seed=seed)
    is_unknown_n = (table["probability"] < threshold) | (table["unknown"] > unknown_above)
    return {
        f"{field}_predicted": table["label"].mask(is_unknown_n, "unknown").to_numpy(),
        f"{field}_probability": table["probability"].to_numpy(),
        f"{field}_unknown": table["unknown"].to_numpy(),
    }


def _joined(
    model: Trained, source: Source, mean_nk: Tensor, scale_nk: Tensor, condition: Condition, facts: dict[str, Any]
) -> Trained:
    """Return the model with the query among its reference cells, and among the cells that it was fitted to.

    After fine-tuning the query alone is the reference: the latents of the cells before are those of other weights.
    """
    old = model.reference
    some = torch.from_numpy(evenly_spaced(np.arange(len(mean_nk)), MAX_REFERENCE))
    given = condition.map(lambda t: t[some])
    reference = Reference(mean_nk[some], scale_nk[some], given, old.hurdle, old.limits, None)
    if not facts["fine_tuned"]:
        reference = replace(
            reference,
            mean_nk=torch.cat([old.mean_nk, reference.mean_nk]),
            scale_nk=torch.cat([old.scale_nk, reference.scale_nk]),
            condition=Condition.join([old.condition, given]),
            clusters=old.clusters and replace(
                old.clusters, cluster_n=torch.cat([old.clusters.cluster_n, torch.full((len(some),), -1)])
            ),
        )  # fmt: skip
    index = source.obs.index
    contents = pd.Series("", index=index, dtype=object)
    rows = sampled_rows(len(source))
    contents.iloc[rows] = contents_of(source, rows)
    has_contents = len(model.contents) == len(model.split)
    return replace(
        model,
        reference=reference,
        split=pd.concat([model.split, pd.Series("training", index=index, name=model.split.name, dtype=object)]),
        contents=pd.concat([model.contents, contents]) if has_contents else model.contents,
        facts={**model.facts, "mapped": facts},
        folder=None,
    )


def _adata(obs: pd.DataFrame, obsm: Mapping[str, Any]) -> AnnData:
    from anndata import AnnData

    return AnnData(obs=obs, obsm=dict(obsm))


def _write(path: Path, obs: pd.DataFrame, obsm: Mapping[str, Any]) -> None:
    """Write the mapped cells."""
    from genevae.io.write.by_suffix import write_output

    write_output(path, [{f"obsm/{name}": rows for name, rows in obsm.items()}], obs, pd.DataFrame(index=[]), {})
