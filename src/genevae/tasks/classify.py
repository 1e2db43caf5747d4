"""Classification of cells by a field that the model is conditioned on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
import torch
from torch import Tensor

from genevae.errors import CategoryError, DataError, nearest, shorten
from genevae.models.classifier import bounds_nc, reconstructions_nc
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells
from genevae.tasks.output import TaskOutput, require_writable

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
    into: str | Path | None = None,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Classify cells by a field that the model is conditioned on.

    p(y | x) ∝ (p(y) · exp(bound(x | y)))^(1/T), with the temperature T fitted on validation cells.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and its other conditions. The field itself may be missing.
    field
        The categorical condition to predict.
    method
        "posterior": the calibrated posterior. "reconstruction": the category with the largest log p(x | z̄, y), where
        z̄ is the posterior mean.
    threshold
        Cells whose largest probability is below this are labelled "unknown".
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Seed of the noise. All categories share the same noise.
    into
        Add the labels to this .h5ad file of the same cells, as the obs columns ``FIELD_predicted`` and
        ``FIELD_probability`` (or ``FIELD_error``). All else in the file stays as it is.
    overwrite
        Whether to replace such columns in the file.

    Returns
    -------
    DataFrame
        One row per cell. With "posterior": ``label``, ``probability``, and the probability of each category. With
        "reconstruction": ``label``, ``error``, and the error −log p(x | z̄, y) of each category, in nats. Categories
        without training cells, such as combinations that were only declared, are left out. Where the data have the
        field, its values are in the column ``true``, after ``label``.

    Raises
    ------
    CategoryError
        If the field is not a categorical condition of the model, or has a single category.
    DataError
        If the method is unknown, the threshold is not between 0 and 1, or the data do not fit the model.
    """
    covariate = model.schema.categorical_field(field)
    if field not in model.calibration:
        raise CategoryError(
            f"'{field}' has a single category among the training cells ({shorten(covariate.categories)}), so there is "
            "nothing to classify."
        )
    if method not in METHODS:
        raise DataError(f"Unknown method '{method}'. {nearest(method, METHODS)}")
    if not 0 <= threshold <= 1:
        raise DataError(f"threshold must be a probability between 0 and 1, not {threshold}.")
    require_writable(None, overwrite, into=into)
    cells = open_cells(model, data, layer, batch_size, fill=[field])
    codes = model.calibration[field].code_c
    categories = [covariate.categories[code] for code in codes]
    with evaluation_mode(model) as module:
        score_nc = torch.cat([
            bounds_nc(module, minibatch, field, codes, torch.Generator().manual_seed(seed)).cpu()
            if method == "posterior"
            else reconstructions_nc(module, minibatch, field, codes).cpu()
            for minibatch in on_device(module, cells)
        ])  # fmt: skip
    obs = cells.source.obs
    if method == "reconstruction":
        table = _table(-score_nc, score_nc.argmax(-1), "error", categories, obs.index.rename("cell"))
    else:
        p_nc = model.calibration[field].probability_nc(score_nc.double())
        table = _table(p_nc, p_nc.argmax(-1), "probability", categories, obs.index.rename("cell"))
        table.loc[table["probability"] < threshold, "label"] = "unknown"
    if field in obs:
        table.insert(1, "true", obs[field].astype(object).to_numpy())
    if into is not None:
        label, score = ("label", "error" if method == "reconstruction" else "probability")
        block = {f"obs/{field}_predicted": table[label].to_numpy(), f"obs/{field}_{score}": table[score].to_numpy()}
        TaskOutput(obs, (), (each for each in [block])).to_anndata(None, into, overwrite)
    return table


def _table(score_nc: Tensor, best_n: Tensor, name: str, categories: list[str], index: pd.Index[str]) -> pd.DataFrame:
    labels = [categories[column] for column in best_n.tolist()]
    best = score_nc.gather(-1, best_n.unsqueeze(-1)).squeeze(-1).numpy()
    columns = [f"{name} {category}" for category in categories]
    scores = pd.DataFrame(score_nc.numpy(), index=index, columns=columns)
    return pd.concat([pd.DataFrame({"label": labels, name: best}, index=index), scores], axis=1)
