"""The question about bulk samples: tissues of projects that were held out, and genes that are hidden from samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from benchmarks.results.data import held_out_projects
from benchmarks.results.jobs import Job, Rows, recipe_of
from benchmarks.results.settings import length_of_ours
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import genevae as gv
from genevae.cells import ExpressionRows
from genevae.metrics.labels import accuracy, macro_f1, majority_accuracy
from genevae.metrics.metric import Metric
from genevae.metrics.principal import Principal
from genevae.metrics.response import log_normalised
from genevae.tasks.inference import evaluation_mode, open_cells

__all__ = ["CONTRAST", "FOLDS", "HIDDEN_ERROR", "PCS", "REGRESSION", "SCALED_PCS", "run_of"]

FOLDS = ("first projects", "second projects")
FIELD, N_NEIGHBOURS, N_COMPONENTS = "tissue", 15, 50
SHARE_HIDDEN = 0.2
CONTRAST = "supervised contrast"
PCS, SCALED_PCS = "nearest neighbours on 50 PCs", "nearest neighbours on 50 PCs of scaled genes"
REGRESSION = "logistic regression on 50 PCs"
HIDDEN_ERROR = Metric(
    "error on hidden genes", "lower", 0,
    "Mean squared error of a fifth of the entries, hidden at random, in standard deviations of the gene.",
)  # fmt: skip

Values = NDArray[Any]


def run_of(job: Job) -> Rows:
    """Train on all projects except those of a fold; predict the tissues of those, and hidden genes."""
    train, adata = held_out_projects("bulk_gtex_tcga_rnaseqdb", FOLDS.index(job.data))
    test = adata[~adata.obs_names.isin(train.obs_names)].copy()
    recipe, setting = recipe_of(job)
    setting = {**length_of_ours(job.question, round(0.9 * train.n_obs), job.quick), **setting}
    options = {"group": FIELD} if recipe == "contrastive" else {}
    model = gv.fit(train, recipe, setting=setting, seed=job.seed, device="cpu", progress=False, **options)
    key = "X_genevae_projected" if recipe == "contrastive" else "X_genevae"
    latents = [gv.embed(model, samples).obsm[key] for samples in (train, test)]
    labels = [samples.obs[FIELD].astype(str).to_numpy() for samples in (train, test)]
    rows = {job.method: {**_neighbours(*latents, *labels), HIDDEN_ERROR.name: _hidden_error(model, test, job.seed)}}
    return rows if job.method == CONTRAST else rows | _baselines(model, train, test, labels, job.seed)


def _neighbours(train_nk: Values, test_nk: Values, train_n: Values, test_n: Values) -> dict[str, float]:
    return _scores(KNeighborsClassifier(N_NEIGHBOURS).fit(train_nk, train_n).predict(test_nk), test_n)


def _scores(predicted_n: Values, true_n: Values) -> dict[str, float]:
    return {"accuracy": accuracy(true_n, predicted_n), "macro-F1": macro_f1(true_n, predicted_n)}


def _baselines(model: gv.Trained, train: AnnData, test: AnnData, labels: list[Values], seed: int) -> Rows:
    """Return the scores of principal components of the same genes."""
    logs = [np.asarray(log_normalised(samples.X, 1e6)) for samples in (train, test)]
    scaled = [_as_trained(model, samples) for samples in (train, test)]
    rows: dict[str, Mapping[str, float]] = {}
    for name, (train_ng, test_ng) in {PCS: logs, SCALED_PCS: scaled}.items():
        space = Principal.fit(train_ng, N_COMPONENTS)
        rows[name] = _neighbours(space.embed(train_ng), space.embed(test_ng), *labels)
    regression = LogisticRegression(max_iter=2000).fit(space.embed(scaled[0]), labels[0])
    rows[REGRESSION] = _scores(regression.predict(space.embed(scaled[1])), labels[1])
    rows["commonest label"] = {"accuracy": majority_accuracy(*labels)}
    hidden = _hidden(scaled[1].shape, seed)
    centre_g, axes_kg = scaled[0].mean(0), np.linalg.svd(scaled[0] - scaled[0].mean(0), full_matrices=False)[2]
    axes_kg = axes_kg[:N_COMPONENTS]
    filled = np.stack([
        centre_g + np.linalg.lstsq(axes_kg.T[~off_g], (x_g - centre_g)[~off_g], rcond=None)[0] @ axes_kg
        for x_g, off_g in zip(scaled[1], hidden, strict=True)
    ])  # fmt: skip
    error = float(np.square(filled - scaled[1])[hidden].mean())
    rows[SCALED_PCS] = {**rows[SCALED_PCS], HIDDEN_ERROR.name: error}
    return rows


def _as_trained(model: gv.Trained, samples: AnnData) -> Values:
    """Return expression as the model was trained on it: logarithms, standardised by gene."""
    return np.concatenate([cells.x.dense().numpy() for cells in open_cells(model, samples, None, 512)]).astype(float)


def _hidden(shape: tuple[int, ...], seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(shape) < SHARE_HIDDEN


def _hidden_error(model: gv.Trained, test: AnnData, seed: int) -> float:
    """Return the squared error of genes that are missing in the samples that the model is given."""
    x_ng = _as_trained(model, test)
    hidden = _hidden(x_ng.shape, seed)
    (cells,) = open_cells(model, test, None, test.n_obs)
    condition = cells.condition.with_measured(torch.tensor(~hidden))
    rows = ExpressionRows.from_dense(torch.tensor(np.where(hidden, 0, x_ng), dtype=torch.float32))
    with evaluation_mode(model) as module, torch.no_grad():
        z_nk = module.posterior(replace(cells, x=rows, condition=condition)).mean
        predicted_ng = module.likelihood(z_nk, condition).mean.double().numpy()
    return float(np.square(predicted_ng - x_ng)[hidden].mean())
