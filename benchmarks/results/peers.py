"""scvi-tools, trained on the cells of a sample; and what is asked of it in the way that ours is asked."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from benchmarks.results.data import Sample
from benchmarks.results.settings import epochs_for
from numpy.typing import NDArray

from genevae.distributions import NegativeBinomial

__all__ = ["BEST", "LAST", "as_ours", "log_weights_sn", "scanvi", "scvi", "scvi_parts", "under_batch"]

BEST, LAST = "best epoch", "last epoch"
AT_ONCE = 128


def scvi(
    sample: Sample, question: str, quick: bool, fields: Sequence[str], ramp: float = 0.5, encode: bool = True
) -> tuple[Any, Any]:
    """Train SCVI with negative binomials; return it with its last weights, which are its default, and its best ones.

    The fields are its batch and its further categories, in the decoder, and in the encoder if so asked. The best
    weights are those of the epoch with the lowest validation loss, as ours are by default.
    """
    import scvi as peer

    peer.settings.seed = sample.seed
    adata = as_counts(sample.adata)
    peer.model.SCVI.setup_anndata(
        adata, batch_key=fields[0] if fields else None, categorical_covariate_keys=list(fields[1:]) or None
    )
    model = peer.model.SCVI(adata, gene_likelihood="nb", encode_covariates=encode and bool(fields))
    keeper = train(model, sample, epochs_for(question, len(sample.split.train), quick), ramp)
    best = copy.deepcopy(model)
    best.module.load_state_dict(keeper.weights)
    return model, best


def scanvi(sample: Sample, question: str, quick: bool, label: str, fields: Sequence[str], hide_test: bool) -> Any:
    """Train SCVI and then SCANVI, as its authors advise; the labels of test and validation cells may be hidden."""
    import scvi as peer

    adata = as_counts(sample.adata)
    told = sample.labels(label).astype(object)
    if hide_test:
        told[np.setdiff1d(np.arange(len(told)), sample.split.train)] = "unknown"
    adata.obs["told"] = told
    peer.settings.seed = sample.seed
    peer.model.SCVI.setup_anndata(
        adata, batch_key=fields[0] if fields else None, categorical_covariate_keys=list(fields[1:]) or None
    )
    first = peer.model.SCVI(adata, gene_likelihood="nb")
    epochs = epochs_for(question, len(sample.split.train), quick)
    train(first, sample, epochs, 0.25)
    model = peer.model.SCANVI.from_scvi_model(first, unlabeled_category="unknown", labels_key="told")
    model.train(max_epochs=max(2, epochs // 10), **quiet(), datasplitter_kwargs={"external_indexing": parts(sample)})
    return model


def train(model: Any, sample: Sample, epochs: int, ramp: float) -> Any:
    """Train on the training cells, with β rising as ours does, and keep the best weights aside."""
    keeper = keep_best()
    model.train(
        max_epochs=epochs,
        **quiet(),
        check_val_every_n_epoch=1,
        plan_kwargs={"n_epochs_kl_warmup": max(1, round(ramp * epochs))},
        datasplitter_kwargs={"external_indexing": parts(sample)},
        callbacks=[keeper],
    )
    return keeper


def keep_best() -> Any:
    """Make a Lightning callback that keeps the weights of the epoch with the best validation bound.

    Epochs while β still rises do not count, as with ours: their loss is another one.
    """
    from lightning.pytorch.callbacks import Callback

    class Keeper(Callback):
        lowest, weights = float("inf"), None

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            loss = float(trainer.callback_metrics.get("elbo_validation", float("nan")))
            if pl_module.kl_weight >= 1 and loss < self.lowest:
                self.lowest, self.weights = loss, copy.deepcopy(pl_module.module.state_dict())

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - as Lightning calls it
            if self.weights is None:
                self.weights = copy.deepcopy(pl_module.module.state_dict())

    return Keeper()


def log_weights_sn(model: Any, rows: NDArray[np.int64], n_draws: int) -> Iterator[NDArray[np.float64]]:
    """Yield log p(x | z) + log p(z) − log q(z | x) of some draws of z, for minibatches of some cells."""
    for qz, z, px, x in scvi_parts(model, rows, n_draws):
        prior = torch.distributions.Normal(torch.zeros_like(qz.loc), torch.ones_like(qz.scale))
        log_w = px.log_prob(x).sum(-1) + prior.log_prob(z).sum(-1) - qz.log_prob(z).sum(-1)
        yield log_w.double().numpy()


def scvi_parts(model: Any, rows: NDArray[np.int64], n_draws: int) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield posterior, draws of z, likelihood under each, and counts, for minibatches of some cells."""
    model.module.eval()
    with torch.no_grad():
        for tensors in model._make_data_loader(adata=model.adata, indices=rows, batch_size=AT_ONCE):
            inferred = model.module.inference(**model.module._get_inference_input(tensors), n_samples=n_draws)
            made = model.module.generative(**model.module._get_generative_input(tensors, inferred))
            yield inferred["qz"], inferred["z"], made["px"], tensors["X"]


def under_batch(model: Any, rows: NDArray[np.int64], batch: str) -> Iterator[tuple[Any, Any, torch.Tensor]]:
    """Yield the likelihood of some cells in their own batch, and in another, from the same draw of z; and counts."""
    code = list(model.adata_manager.get_state_registry("batch").categorical_mapping).index(batch)
    model.module.eval()
    with torch.no_grad():
        for tensors in model._make_data_loader(adata=model.adata, indices=rows, batch_size=AT_ONCE):
            inferred = model.module.inference(**model.module._get_inference_input(tensors))
            other = {**tensors, "batch": torch.full_like(tensors["batch"], code)}
            own, there = (
                model.module.generative(**model.module._get_generative_input(told, inferred))["px"]
                for told in (tensors, other)
            )
            yield as_ours(own), as_ours(there), tensors["X"]


def as_ours(px: Any) -> NegativeBinomial:
    """Take SCVI's negative binomial for ours."""
    return NegativeBinomial(px.mean, px.theta.expand(px.mean.shape))


def as_counts(adata: AnnData) -> AnnData:
    """Copy the cells; scvi-tools writes into obs, and adds up what is CSR fastest."""
    return adata.copy()


def parts(sample: Sample) -> list[NDArray[np.int64]]:
    """Return the rows that train, validate and test.

    scvi-tools cannot train on a minibatch of one cell: where one would be left over, it validates.
    """
    train, validation = sample.split.train, sample.split.validation
    if len(train) % AT_ONCE == 1:
        train, validation = train[:-1], np.append(validation, train[-1])
    return [train, validation, sample.split.test]


def quiet() -> dict[str, Any]:
    """Return what keeps Lightning on the processor, and silent."""
    return {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
