"""What is assumed of cells that lack something that a model was given: genes, a technical batch, or labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genevae.cells import Cells, ExpressionRows
from genevae.data.covariates import category_names
from genevae.data.levels import by_level
from genevae.data.schema import Categorical, Schema
from genevae.errors import warn
from genevae.models.vae import VAE

if TYPE_CHECKING:
    from genevae.io.source import Source
    from genevae.models.reference import Reference
    from genevae.tasks.inference import TrainedModel

__all__ = ["with_batches", "with_expected_genes", "with_labels"]

WITHOUT_LABEL = frozenset({"unknown", "unlabelled", "unlabeled", "unassigned", "nan", "none", "na", ""})
"""Values of cells without a label."""
N_STEPS = 10
"""Times that missing genes are computed from the latent, and the latent from them."""


def with_expected_genes(module: VAE, cells: Cells, n_steps: int = N_STEPS) -> Cells:
    """Return cells with the expected expression of the genes that they lack, where the model has not learned a value.

    The latent and the missing genes are computed from each other, beginning with the mean of the prior:
    x_missing = E[x | z, c], z = E[z | x, c]. The likelihood of counts gives its measured genes the size of the cell,
    and the others in proportion.

    Parameters
    ----------
    module
        The network.
    cells
        A minibatch. If all genes were measured, it is returned as it is.
    n_steps
        Times that missing genes are computed from the latent, and the latent from them.
    """
    measured_ng = cells.condition.measured_ng
    if measured_ng is None or measured_ng.all() or _has_learned(module):
        return cells
    x_ng = cells.x.dense()
    filled = cells
    z_nk = module.prior(cells.condition).mean.expand(len(x_ng), -1)
    for _ in range(n_steps):
        expected_ng = module.likelihood(z_nk, cells.condition).mean
        filled = replace(cells, x=ExpressionRows.from_dense(torch.where(measured_ng, x_ng, expected_ng)))
        z_nk = module.posterior(filled).mean
    return filled


def _has_learned(module: VAE) -> bool:
    """Whether the posterior was trained on cells that lack genes."""
    return any(getattr(part, "missing_g", None) is not None for part in module.modules())


def with_batches(source: Source, schema: Schema, reference: Reference, fill: Sequence[str]) -> Source:
    """Return data with a technical batch for every cell: where it is missing or new, the commonest of training.

    A model that has learned to do without takes it as unknown.

    Parameters
    ----------
    source
        The data.
    schema
        The covariates of the model.
    reference
        Training cells.
    fill
        Fields that the task sets.
    """
    field = next((each for each in schema.categorical if each.technical), None)
    if field is None or field.name in fill:
        return source
    if field.name in source.obs:
        column = source.obs[field.name]
    else:
        column = pd.Series(pd.Categorical.from_codes(np.full(len(source), -1), []), index=source.obs.index)
    is_new = by_level(lambda values: ~category_names(values).isin(field.labels), column)
    if not is_new.any():
        return source
    names = category_names(column)
    common = None if field.unknown else _commonest(field, reference)
    assumed = "of an unknown one, which the model has learned" if field.unknown else f"{common}, the commonest"
    what = f"have no {field.name}"
    if names[is_new].notna().any():
        what = f"have another {field.name} than the training cells, or none"
    warn(
        f"{int(is_new.sum()):,} cells {what}: they are treated as {assumed}. To learn theirs: map_query(model, data) "
        "(genevae map RUN DATA --out NEW)."
    )
    if field.unknown:
        return source
    obs = source.obs.copy()
    obs[field.name] = names.mask(is_new, common).to_numpy(dtype=object)
    return replace(source, obs=obs)  # type: ignore[type-var]


def with_labels(source: Source, model: TrainedModel, fill: Sequence[str]) -> Source:
    """Return data with a label for every cell: where it is missing, as the model's labels predict it.

    Parameters
    ----------
    source
        The data.
    model
        A trained model.
    fill
        Fields that the task sets.
    """
    fields = {each.name: each for each in model.schema.categorical}
    missing = {name: _without_label(source, each) for name, each in fields.items()}
    without = {name: is_missing_n for name, is_missing_n in missing.items() if is_missing_n.any() and name not in fill}
    if not without or model.labels is None or not without.keys() <= set(model.labels.fields):
        return source
    from genevae.tasks.classify import classify

    common, obs = source.obs.copy(), source.obs.copy()
    for name, is_missing_n in missing.items():  # each label is predicted as if the others were the commonest
        if is_missing_n.any():
            common[name] = _filled(obs, name, is_missing_n, _commonest(fields[name], model.reference))
    assumed: Source = replace(source, obs=common)  # type: ignore[type-var]
    for name, is_missing_n in without.items():
        obs[name] = _filled(obs, name, is_missing_n, classify(model, assumed, name)["label"].to_numpy(dtype=object))
        warn(f"{int(is_missing_n.sum()):,} cells have no {name}: the model's predicted labels are used.")
    return replace(source, obs=obs)  # type: ignore[type-var]


def _filled(obs: pd.DataFrame, name: str, is_missing_n: NDArray[np.bool_], value: object) -> pd.Series[Any]:
    """Return a column, with a value in the cells that have none."""
    values = pd.Series(value, index=obs.index, dtype=object)
    return values.where(is_missing_n, obs.get(name, values).astype(object))


def _without_label(source: Source, field: Categorical) -> NDArray[np.bool_]:
    """Return the cells that have no category of a field, where it may not be unknown."""
    if field.unknown:
        return np.zeros(len(source), dtype=bool)
    if field.name not in source.obs:
        return np.ones(len(source), dtype=bool)

    def is_missing(column: pd.Series[Any]) -> pd.Series[bool]:
        texts = column.astype(object).astype(str)
        missing = column.isna() | texts.str.strip().str.casefold().isin(WITHOUT_LABEL)
        return missing & ~texts.isin(field.categories)

    return by_level(is_missing, source.obs[field.name])


def _commonest(field: Categorical, reference: Reference) -> str:
    counts = torch.bincount(reference.condition.codes[field.name], minlength=len(field.categories))
    return field.categories[int(counts.argmax())]
