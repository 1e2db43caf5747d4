"""Counterfactuals as cell-eval of the Virtual Cell Challenge reads them: predictions, and real cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from genevae.data.value_kind import Kind
from genevae.errors import CategoryError, DataError, nearest, shorten
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.formats import to_anndata
from genevae.io.overwrite import require_free, require_separate
from genevae.tasks.counterfactual import counterfactual
from genevae.tasks.inference import TrainedModel, open_cells
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["PREDICTED", "REAL", "for_cell_eval"]

PREDICTED, REAL = "predicted.h5ad", "real.h5ad"
TARGET = 1e4
"""Counts per cell that both files are normalised to."""


@task
def for_cell_eval(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    field: str,
    *,
    targets: Sequence[str] | str | None = None,
    out: str | Path,
    answer: str = "auto",
    n_controls: int = 1000,
    layer: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write predictions of perturbations beside the real cells, as cell-eval reads them.

    Control cells are predicted under each perturbation (:func:`~genevae.tasks.counterfactual.counterfactual`). Both
    files have the genes of the model in one order, log-normalised expression of 10,000 counts per cell, the same
    perturbations, and measured control cells.

    Parameters
    ----------
    model
        A trained model, of a perturbation with a control.
    data
        Control cells, and cells of the perturbations.
    field
        The obs column of the perturbation.
    targets
        The perturbations; all of the data that the model knows by default.
    out
        The folder to write: ``predicted.h5ad`` and ``real.h5ad``.
    answer
        As for :func:`~genevae.tasks.counterfactual.counterfactual`.
    n_controls
        Control cells that are predicted, sampled where there are more.
    layer
        The layer that holds the expression, or "raw"; X by default.
    seed
        Of the sample and the predictions.
    overwrite
        Whether to replace an existing folder.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    CategoryError
        If the field has no control, or a perturbation is unknown or has no cells.
    DataError
        If there are no control cells, or values are neither counts nor log-normalised.
    RunError
        If the folder exists.

    References
    ----------
    Roohani et al., Virtual Cell Challenge, Cell 188:3370 (2025).
    """
    require_separate(Path(out), model, data)
    covariate = model.schema.categorical_field(field)
    if covariate.control is None:
        raise CategoryError(
            f"'{field}' has no control, which cell-eval compares with. Train with --control {field}=CATEGORY."
        )
    if n_controls < 1:
        raise DataError(f"n_controls must be 1 or more, not {n_controls}.")
    if not (model.schema.kind.is_count or model.schema.kind is Kind.LOG):
        raise DataError(f"cell-eval reads log-normalised values, and those of this model are {model.schema.kind}.")
    out = Path(out)
    require_free(out, overwrite, [model, data], [PREDICTED])
    real = to_anndata(open_cells(model, data, layer, 512).source)
    label_n = real.obs[field].astype(str)
    chosen = _targets(label_n, covariate.categories, covariate.control, field, targets)
    rows = np.flatnonzero(label_n == covariate.control)
    if not len(rows):
        raise DataError(f"The data have no cells with '{field}' = '{covariate.control}', from which predictions begin.")
    rng = np.random.default_rng(seed)
    controls = real[np.sort(rng.choice(rows, min(n_controls, len(rows)), replace=False))].copy()
    parts = [_normalised(controls, model.schema.kind, field, covariate.control)]
    for target in chosen:
        predicted = counterfactual(model, controls, {field: target}, answer=answer, n_draws=1, layer="X", seed=seed)
        parts.append(_normalised(predicted, model.schema.output_kind, field, target))
    kept = real[label_n.isin([covariate.control, *chosen]).to_numpy()].copy()
    with staging_folder(out) as folder:
        draft = folder / out.name
        draft.mkdir()
        _joined(parts).write_h5ad(draft / PREDICTED)
        _normalised(kept, model.schema.kind, field).write_h5ad(draft / REAL)
        replace_with(draft, out)
    return out


def _targets(
    label_n: pd.Series[Any], known: Sequence[str], control: str, field: str, targets: Sequence[str] | str | None
) -> list[str]:
    """Return the perturbations to predict, all of which have cells.

    Raises
    ------
    CategoryError
        If there are none, or one is unknown or has no cells.
    """
    there = [each for each in known if each != control and (label_n == each).any()]
    given = there if targets is None else [targets] if isinstance(targets, str) else [str(each) for each in targets]
    if control in given:
        raise CategoryError(f"'{control}' is the control of '{field}', not a perturbation. {nearest('', there)}")
    if absent := [each for each in given if each not in there]:
        raise CategoryError(
            f"No cell has '{field}' = '{shorten(absent)}' in data and model. {nearest(absent[0], there)}"
        )
    if not given:
        raise CategoryError(f"The data have no perturbation of '{field}' that the model knows, but '{control}'.")
    return given


def _normalised(adata: AnnData, kind: Kind, field: str, label: str | None = None) -> AnnData:
    """Return cells with log-normalised expression and the column of the perturbation."""
    from anndata import AnnData

    x = sparse.csr_matrix(adata.X, dtype=np.float32)
    if kind.is_count:
        total_n = np.asarray(x.sum(1)).ravel()
        x = sparse.csr_matrix(sparse.diags(TARGET / np.maximum(total_n, 1)) @ x, dtype=np.float32)
        x.data = np.log1p(x.data)
    names = adata.obs_names if label is None else adata.obs_names + f"-{label}"
    column = adata.obs[field].astype(str).to_numpy() if label is None else [label] * adata.n_obs
    obs = pd.DataFrame({field: pd.Categorical(column)}, index=names)
    return AnnData(x, obs=obs, var=pd.DataFrame(index=adata.var_names))


def _joined(parts: Sequence[AnnData]) -> AnnData:
    import anndata

    joined = anndata.concat(parts)
    joined.obs = joined.obs.astype("category")
    return joined
