"""Which category each cell belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
import torch
from torch import Tensor

from genevae.errors import CategoryError, DataError, nearest, shorten
from genevae.models.classifier import bounds_nc, reconstructions_nc
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["classify"]

METHODS = ("posterior", "reconstruction")


def classify(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    field: str,
    method: Literal["posterior", "reconstruction"] = "posterior",
    threshold: float = 0.0,
    layer: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> pd.DataFrame:
    """Classify cells by a field that the model is conditioned on.

    p(y | x) ∝ (p(y) · exp(bound(x | y)))^(1/T), T fitted on the validation cells.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and its other conditions; the field itself may be missing.
    field
        The categorical condition to tell.
    method
        By calibrated posterior, or by best reconstruction: the largest log p(x | z̄, y), z̄ the posterior's mean.
    threshold
        Cells whose best probability is below this are labelled "unknown".
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Of the noise, which all categories share.

    Returns
    -------
    DataFrame
        One row per cell: ``label``, ``probability``, and the probability of each category; by reconstruction,
        ``label``, ``error``, and the error −log p(x | z̄, y) of each, in nats. Categories that no training cell had,
        such as combinations that were merely foreseen, are not told.

    Raises
    ------
    CategoryError
        If the field is not a categorical condition of the model, or has one category only.
    """
    covariate = model.schema.categorical_field(field)
    if field not in model.calibration:
        raise CategoryError(
            f"The training cells had one category only of '{field}' ({shorten(covariate.categories)}): "
            "there is nothing to tell."
        )
    if method not in METHODS:
        raise DataError(f"There is no method '{method}'. {nearest(method, METHODS)}")
    if not 0 <= threshold <= 1:
        raise DataError(f"threshold is a probability, and cannot be {threshold}.")
    cells = open_cells(model, data, layer, batch_size, fill=[field])
    codes = model.calibration[field].code_c
    told = [covariate.categories[code] for code in codes]
    with evaluation_mode(model) as module:
        score_nc = torch.cat([
            bounds_nc(module, minibatch, field, codes, torch.Generator().manual_seed(seed)).cpu()
            if method == "posterior"
            else reconstructions_nc(module, minibatch, field, codes).cpu()
            for minibatch in on_device(module, cells)
        ])  # fmt: skip
    if method == "reconstruction":
        return _table(-score_nc, score_nc.argmax(-1), "error", told, cells.source.obs.index.rename("cell"))
    p_nc = model.calibration[field].probability_nc(score_nc.double())
    table = _table(p_nc, p_nc.argmax(-1), "probability", told, cells.source.obs.index.rename("cell"))
    table.loc[table["probability"] < threshold, "label"] = "unknown"
    return table


def _table(score_nc: Tensor, best_n: Tensor, name: str, told: list[str], index: pd.Index[str]) -> pd.DataFrame:
    labels = [told[place] for place in best_n.tolist()]
    best = score_nc.gather(-1, best_n.unsqueeze(-1)).squeeze(-1).numpy()
    each = pd.DataFrame(score_nc.numpy(), index=index, columns=[f"{name} {category}" for category in told])
    return pd.concat([pd.DataFrame({"label": labels, name: best}, index=index), each], axis=1)
