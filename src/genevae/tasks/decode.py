"""Expected expression at any place of the latent, in any condition."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from genevae.cells import Condition
from genevae.data.schema import Categorical, Schema
from genevae.errors import CategoryError, DataError
from genevae.tasks.condition import assigned
from genevae.tasks.inference import TrainedModel, evaluation_mode, require_size
from genevae.tasks.output import to_numpy
from genevae.tasks.task import task

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SIZE", "decode"]

SIZE = 1e4
"""Counts per cell, where a model of counts is given none."""
BLOCK = 2_000
"""Rows at once."""


@task
def decode(
    model: TrainedModel, z: ArrayLike, condition: Mapping[str, Any] | str | None = None, *, size: float | None = None
) -> pd.DataFrame:
    """Decode latents: the mean of p(x | z, c).

    Parameters
    ----------
    model
        A trained model.
    z
        Latents, rows × latent dimensions, such as ``obsm["X_genevae"]`` of :func:`~genevae.tasks.embed.embed`.
    condition
        The value of every field that the model is given: one for all rows, or one for each.
    size
        Counts per cell; 10,000 by default. Only for models of counts.

    Returns
    -------
    DataFrame
        Rows × genes: expected counts, or expected values on the logarithmic scale of the model.

    Raises
    ------
    CategoryError
        If a field or a category is unknown, or a field has no value.
    DataError
        If the latents have another number of dimensions, or are not finite.
    """
    require_size(model, size)
    z_nk = _latents(model, z)
    with evaluation_mode(model) as module:
        device = next(module.parameters()).device
        given = _conditions(model.schema, condition, len(z_nk)).map(lambda t: t.to(device))
        blocks = [
            _means(model, module, z_nk[rows].to(device), given.map(itemgetter(rows)), size)
            for rows in _blocks(len(z_nk))
        ]
    return pd.DataFrame(np.concatenate(blocks), columns=list(model.schema.genes))


def _means(model: TrainedModel, module: Any, z_nk: Tensor, condition: Condition, size: float | None) -> Any:
    sized = condition.with_size(torch.full_like(condition.size_n1, SIZE if size is None else size))
    return to_numpy(model.schema.transform.invert(module.likelihood(z_nk, sized).mean, sized.size_n1))


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, max(n, 1), BLOCK):
        yield slice(start, start + BLOCK)


def _latents(model: TrainedModel, z: ArrayLike) -> Tensor:
    z_nk = np.asarray(z, dtype=np.float32)
    n_latent = model.reference.mean_nk.shape[1]
    if z_nk.ndim != 2 or z_nk.shape[1] != n_latent:
        raise DataError(f"z must be rows × {n_latent} latent dimensions of this model, not of shape {z_nk.shape}.")
    if not np.isfinite(z_nk).all():
        raise DataError("z has values that are missing or infinite.")
    return torch.from_numpy(z_nk)


def _conditions(schema: Schema, condition: Mapping[str, Any] | str | None, n: int) -> Condition:
    """Return the condition of every row."""
    values_of = assigned(schema, condition or {})
    if absent := [name for name in schema.fields if name not in values_of]:
        raise CategoryError(f"Give the value of '{absent[0]}' too: decoding needs every field of the model.")
    codes, values = {}, {}
    for name, given in values_of.items():
        covariate = schema[name]
        each = [given] if isinstance(given, str) or np.ndim(given) == 0 else list(given)
        if len(each) not in (1, n):
            raise DataError(f"'{name}' has {len(each)} values for {n} rows: give one value, or one for each row.")
        if isinstance(covariate, Categorical):
            codes[name] = torch.tensor([covariate.code(value) for value in each]).expand(n)
        else:
            values[name] = torch.tensor([covariate.value(value) for value in each]).expand(n)
    return Condition(torch.ones(n, 1), codes, values)
