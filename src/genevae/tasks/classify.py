"""Classification of cells by a field that the model is conditioned on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genevae.cells import Cells
from genevae.data.schema import Schema
from genevae.engine import Block, Plan, Workers
from genevae.errors import CategoryError, DataError, nearest, shorten
from genevae.models.classifier import Calibration, bounds_nc, reconstructions_nc
from genevae.models.vae import VAE
from genevae.tasks.inference import CellPass, TrainedModel, open_cells
from genevae.tasks.output import TaskOutput, joined, require_writable
from genevae.tasks.response import logged
from genevae.tasks.task import add_to, task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["SEPARATOR", "classify", "labels_of", "logged_cells"]

METHODS = ("stack", "posterior", "reconstruction")
SEPARATOR = " | "
"""Between the labels of a set."""


@task
def classify(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    field: str | None = None,
    *,
    method: Literal["stack", "posterior", "reconstruction"] = "stack",
    threshold: float = 0.0,
    layer: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    into: str | Path | None = None,
    key_added: str | None = None,
    overwrite: bool = False,
    executor: Workers | None = None,
) -> pd.DataFrame:
    """Classify cells by a field that the model is conditioned on.

    p(y | x) ∝ Π_m p_m(y | x)^{w_m}. The members m are logistic regression and the 15 nearest training cells, both in 50
    principal components of expression and in those of standardised genes, and the model's own posterior,
    p(y | x) ∝ (p(y) · exp(bound(x | y)))^(1/T). The weights w and the temperature T are fitted on cells that the
    members were not fitted to. Batches, perturbations and runs of earlier versions have the posterior alone.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and its other conditions. The field itself may be missing.
    field
        The categorical condition to predict; may be left out if the model has one besides the technical batch.
    method
        "stack": the product of all members. "posterior": the calibrated posterior alone. "reconstruction": the category
        with the largest log p(x | z̄, y), where z̄ is the posterior mean.
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
        ``FIELD_probability`` (or ``FIELD_error``), and from the stack ``FIELD_set`` and ``FIELD_unknown``. All else in
        the file stays as it is.
    key_added
        Also add the result to the given AnnData, as ``obs[key_added]`` (labels) and ``obs[key_added +
        "_probability"]`` (or ``"_error"``).
    overwrite
        Whether to replace such columns in the file.
    executor
        Where the cells are computed: "processes:4", "dask:ADDRESS", "submitit:PARTITION", a pool, a ``Client`` of Dask
        or an executor of submitit; by default this process. The result does not depend on it.

    Returns
    -------
    DataFrame
        One row per cell, with ``label``, ``probability``, and the probability of each category. From the stack also
        ``set``, the labels that are plausible, joined by " | ": for cells like those of training it has the true label
        in 90 % of cells, and it may be empty. And ``unknown``, the share of training cells that are nearer to a label
        than the cell is: near one for cells of a type that the model never saw.
        With "reconstruction": ``label``, ``error``, and the error −log p(x | z̄, y) of each category, in nats.
        Categories without training cells, such as combinations that were only declared, are left out. Where the data
        have the field, its values are in the column ``true``, after ``label``.

    Raises
    ------
    CategoryError
        If the field is not a categorical condition of the model, or has a single category.
    DataError
        If the method is unknown, the threshold is not between 0 and 1, or the data do not fit the model.

    References
    ----------
    Hinton, Neural Computation 14:1771 (2002), products of experts; Sadinle, Lei and Wasserman, JASA 114:223 (2019),
    sets; Lee et al., NeurIPS (2018), distances.
    """
    field = field or _only_field(model.schema)
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
    plan = Plan(
        _scores, model=model, data=data, field=field, method=method, layer=layer, batch_size=batch_size, seed=seed
    )
    obs, index = plan.here.cells.source.obs, plan.here.cells.source.obs.index.rename("cell")
    categories = labels_of(model.schema, field, model.calibration[field])
    found = joined(plan.blocks(executor, into))
    if method == "reconstruction":
        table = _table(found["error"], -1, "error", categories, index)
    else:
        table = _table(found["probability"], 1, "probability", categories, index)
    if "set" in found:
        sets = [SEPARATOR.join(c for c, is_in in zip(categories, row, strict=True) if is_in) for row in found["set"]]
        table.insert(2, "set", sets)
        table.insert(3, "unknown", found["unknown"])
    if method != "reconstruction":
        table.loc[table["probability"] < threshold, "label"] = "unknown"
    if into is not None:
        kept = ("label", "error", "probability", "set", "unknown")
        names = {name: "predicted" if name == "label" else name for name in kept if name in table}
        block = {f"obs/{field}_{name}": table[column].to_numpy() for column, name in names.items()}
        TaskOutput(obs, (), (each for each in [block])).to_anndata(None, into, overwrite)
    if key_added is not None:
        score = "error" if method == "reconstruction" else "probability"
        labels = pd.Categorical(table["label"], sorted({*categories, *table["label"]}))
        add_to(data, {f"obs/{key_added}": labels, f"obs/{key_added}_{score}": table[score].to_numpy()})
    if field in obs:
        table.insert(1, "true", obs[field].astype(object).to_numpy())
    return table


def _only_field(schema: Schema) -> str:
    """Return the categorical condition that is not the technical batch, if there is one."""
    fields = [each.name for each in schema.categorical if not each.technical]
    if len(fields) != 1:
        without = "This model is given no categorical condition. Train one that is given the labels: --condition FIELD."
        raise CategoryError(f"Give the field to predict. {nearest('', fields)}" if fields else without)
    return fields[0]


def labels_of(schema: Schema, field: str, calibration: Calibration) -> list[str]:
    """Return the categories of a field that are predicted."""
    categories = schema.categorical_field(field).categories
    return [categories[code] for code in calibration.code_c]


def logged_cells(schema: Schema, cells: Cells) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return expression on a log scale, and which of it was measured."""
    x_ng = logged(schema, schema.transform.invert(cells.x.dense(), cells.condition.size_n1).cpu())
    measured_ng = cells.condition.measured_ng
    return x_ng.astype(np.float32), None if measured_ng is None else measured_ng.cpu().numpy()


def _posterior_nc(model: TrainedModel, module: VAE, cells: Cells, field: str, seed: int) -> NDArray[np.float64]:
    """Return the probabilities of the model's own posterior."""
    calibration = model.calibration[field]
    score_nc = bounds_nc(module, cells, field, calibration.code_c, torch.Generator().manual_seed(seed))
    return calibration.probability_nc(score_nc.cpu().double()).numpy()


def _scores(
    model: TrainedModel, data: Any, field: str, method: str, layer: str | None, batch_size: int, seed: int
) -> CellPass:
    """Return the pass that computes the score of each category for each cell."""
    stacked = method == "stack" and model.labels is not None and field in model.labels.fields

    def scores(module: VAE, cells: Cells) -> Iterator[Block]:
        if method == "reconstruction":
            codes = model.calibration[field].code_c
            yield {"error": -reconstructions_nc(module, cells, field, codes).cpu().numpy()}
        elif stacked and model.labels is not None:
            bound_nc = None
            if model.labels.uses_bound(field):
                with np.errstate(divide="ignore"):
                    bound_nc = np.log(_posterior_nc(model, module, cells, field, seed))
            predicted = model.labels.predict(field, *logged_cells(model.schema, cells), bound_nc)
            yield dict(zip(("probability", "set", "unknown"), predicted, strict=True))
        else:
            yield {"probability": _posterior_nc(model, module, cells, field, seed)}

    return CellPass(model, open_cells(model, data, layer, batch_size, fill=[field]), scores, batch_size, seed)


def _table(
    score_nc: NDArray[np.float64], sign: int, name: str, categories: Sequence[str], index: pd.Index[str]
) -> pd.DataFrame:
    best_n = (sign * score_nc).argmax(1)
    best = {"label": np.array(categories, dtype=object)[best_n], name: score_nc[np.arange(len(best_n)), best_n]}
    columns = [f"{name} {category}" for category in categories]
    return pd.concat([pd.DataFrame(best, index=index), pd.DataFrame(score_nc, index=index, columns=columns)], axis=1)
