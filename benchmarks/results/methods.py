"""Other methods for comparison, each as a model that `gv.evaluate` accepts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from benchmarks.results.data import Sample
from benchmarks.results.settings import epochs_for
from numpy.typing import NDArray

import genevae as gv
from genevae.evaluation.model import EvaluatedModel
from genevae.metrics.principal import Principal
from genevae.metrics.response import log_normalised
from genevae.tasks.inference import evaluation_mode, open_cells, seeded

__all__ = ["BEST", "LAST", "LatentArithmetic", "harmony", "keep_best", "principal", "scanvi", "scvi"]

BEST, LAST = "SCVI, best epoch", "SCVI, last epoch"
AT_ONCE = 128
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}


def scvi(
    sample: Sample, question: str, quick: bool, fields: Sequence[str], *, ramp: float = 0.5, encode: bool = True,
    control: dict[str, str] | None = None,
) -> dict[str, EvaluatedModel]:  # fmt: skip
    """Train SCVI with negative binomials; return it with the last weights, its default, and with the best ones.

    The first field is its batch, the others are categorical covariates, in the decoder, and in the encoder if
    ``encode``. The best weights are those of the epoch with the lowest validation loss, the default of our recipes.
    """
    import scvi as scvi_tools

    scvi_tools.settings.seed = sample.seed
    model = _scvi(sample, fields, encode_covariates=encode and bool(fields))
    keeper = _train(model, sample, epochs_for(question, len(sample.split.train), quick), ramp)
    best = copy.deepcopy(model)
    best.module.load_state_dict(keeper.weights)
    return {name: gv.adapters.scvi(each, control=control) for name, each in ((LAST, model), (BEST, best))}


def scanvi(sample: Sample, question: str, quick: bool, label: str, fields: Sequence[str]) -> EvaluatedModel:
    """Train SCVI and then SCANVI, as its authors recommend, with the labels of the training cells."""
    import scvi as scvi_tools

    scvi_tools.settings.seed = sample.seed
    first = _scvi(sample, fields)
    epochs = epochs_for(question, len(sample.split.train), quick)
    _train(first, sample, epochs, 0.25)
    first.adata.obs[label] = np.where(
        np.isin(np.arange(sample.adata.n_obs), sample.split.train), sample.labels(label), "unknown"
    )
    model = scvi_tools.model.SCANVI.from_scvi_model(first, unlabeled_category="unknown", labels_key=label)
    model.train(max_epochs=max(2, epochs // 10), **QUIET, datasplitter_kwargs={"external_indexing": _parts(sample)})
    return gv.adapters.scvi(model)


def _scvi(sample: Sample, fields: Sequence[str], **options: Any) -> Any:
    from scvi.model import SCVI

    adata = sample.adata.copy()  # scvi-tools writes into obs
    covariates = list(fields[1:]) or None
    SCVI.setup_anndata(adata, batch_key=fields[0] if fields else None, categorical_covariate_keys=covariates)
    return SCVI(adata, gene_likelihood="nb", **options)


def _train(model: Any, sample: Sample, epochs: int, ramp: float) -> Any:
    """Train on the training cells, with the same warm-up of β as our recipes, and keep the best weights too."""
    keeper = keep_best()
    model.train(
        max_epochs=epochs,
        **QUIET,
        check_val_every_n_epoch=1,
        plan_kwargs={"n_epochs_kl_warmup": max(1, round(ramp * epochs))},
        datasplitter_kwargs={"external_indexing": _parts(sample)},
        callbacks=[keeper],
    )
    return keeper


def keep_best(after_warm_up: bool = True) -> Any:
    """Make a Lightning callback that keeps the weights of the epoch with the best validation bound.

    By default epochs during the warm-up of β do not count, as in our recipes.
    """
    from lightning.pytorch.callbacks import Callback

    class Keeper(Callback):
        lowest, weights = float("inf"), None

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            loss = float(trainer.callback_metrics.get("elbo_validation", float("nan")))
            if (pl_module.kl_weight >= 1 or not after_warm_up) and loss < self.lowest:
                self.lowest, self.weights = loss, copy.deepcopy(pl_module.module.state_dict())

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - the signature of Lightning
            if self.weights is None:
                self.weights = copy.deepcopy(pl_module.module.state_dict())

    return Keeper()


def _parts(sample: Sample) -> list[NDArray[np.int64]]:
    """Return the rows for training, validation and test.

    scvi-tools cannot train on a minibatch of one cell: a single remaining cell is moved to validation.
    """
    train, validation = sample.split.train, sample.split.validation
    if len(train) % AT_ONCE == 1:
        train, validation = train[:-1], np.append(validation, train[-1])
    return [train, validation, sample.split.test]


class _Latent:
    """A latent, computed for all cells of a job."""

    def __init__(self, adata: AnnData, z_nk: NDArray[Any], split: pd.Series[str]) -> None:
        self.genes, self.split, self.n_latent = list(adata.var_names), split, z_nk.shape[1]
        self.place = pd.DataFrame(np.asarray(z_nk), index=adata.obs_names)

    def embed(self, cells: AnnData) -> NDArray[Any]:
        """Return the rows of the cells."""
        return self.place.loc[cells.obs_names].to_numpy()


def principal(sample: Sample, n_components: int) -> NDArray[Any]:
    """Return principal components of log-normalised expression."""
    x_ng = log_normalised(sample.adata.X)
    return Principal.fit(x_ng, n_components, sample.seed).embed(x_ng)


def harmony(sample: Sample, batch: str, plain_nk: NDArray[Any]) -> NDArray[Any]:
    """Correct principal components by Harmony."""
    import harmonypy

    done = harmonypy.run_harmony(plain_nk, sample.adata.obs, batch, verbose=False, random_state=sample.seed, ncores=1)
    return np.asarray(done.Z_corr, dtype=np.float64)


class LatentArithmetic:
    """scGen's counterfactual: the mean shift of other contexts, added to the latents of a model without conditions.

    All contexts have the same weight; scGen samples the same number of cells of each.
    """

    def __init__(
        self, model: gv.Trained, adata: AnnData, context: str, field: str, control: str, held_out: str
    ) -> None:
        self.model, self.genes, self.split = model, list(model.schema.genes), model.split
        self.n_latent = model.reference.mean_nk.shape[1]
        self.fields = {field: sorted(set(adata.obs[field].astype(str)))}
        self.control = {field: control}
        z = pd.DataFrame(gv.embed(model, adata).obsm["X_genevae"])
        keys = [adata.obs[name].astype(str).to_numpy() for name in (field, context)]
        mean = z.groupby(keys).mean().drop(index=held_out, level=1)
        self.shift_k = {
            level: torch.from_numpy((mean.loc[level] - mean.loc[control]).dropna().mean().to_numpy()).float()
            for level in self.fields[field]
        }

    def counterfactual(self, cells: AnnData, condition: dict[str, str], seed: int) -> NDArray[Any]:
        """Shift the latents, and quantile-map each count."""
        (level,) = condition.values()
        with evaluation_mode(self.model) as module, seeded(module, seed):
            (minibatch,) = open_cells(self.model, cells, None, len(cells))
            z_nk = module.posterior(minibatch).sample()
            before, after = (module.likelihood(z, minibatch.condition) for z in (z_nk, z_nk + self.shift_k[level]))
            return before.quantile_map(minibatch.x.dense(), after).numpy()
