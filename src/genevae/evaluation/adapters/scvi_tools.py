"""A trained SCVI or SCANVI of scvi-tools, as evaluation sees it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import ExpressionRows
from genevae.data.covariates import Categorical, category_names
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.distributions import ExpressionDistribution, NegativeBinomial, Normal, Poisson, ZeroInflated
from genevae.errors import DataError
from genevae.evaluation.model import Decoded, EvaluatedModel
from genevae.tasks.inference import seeded

__all__ = ["scvi"]

Numbers = NDArray[Any]
Tensors = dict[str, Tensor]
BATCH_SIZE = 128
AT_ONCE = 10
"""Draws of z that are decoded in one pass."""
COVARIATES = "extra_categorical_covs"


def scvi(model: Any, *, control: Mapping[str, str] | None = None) -> EvaluatedModel:
    """Return a trained SCVI or SCANVI model of scvi-tools as :func:`genevae.evaluate` takes it.

    Its batch and further categorical covariates are the fields that it is conditioned on. The batch counts as
    technical unless it has a control level.

    Parameters
    ----------
    model
        A trained ``scvi.model.SCVI`` or ``scvi.model.SCANVI``. It can generate cells if its AnnData is loaded.
    control
        The control level of those of its fields that are perturbations.

    Raises
    ------
    DataError
        If scvi-tools is not installed, or this is another kind of model.

    Examples
    --------
    >>> import genevae as gv
    >>> gv.evaluate({"nb": "run", "SCVI": gv.adapters.scvi(model)}, "cells.h5ad")  # doctest: +SKIP
    """
    try:
        from scvi.model import SCANVI, SCVI
    except ImportError as error:
        raise DataError("scvi-tools is not installed: pip install 'genevae[scvi]'.") from error
    if not isinstance(model, SCVI | SCANVI) or not model.is_trained:
        raise DataError(f"This takes a trained SCVI or SCANVI model of scvi-tools, and not {type(model).__name__}.")
    peer = _Peer(model, dict(control or {}))
    is_scanvi, has_cells = isinstance(model, SCANVI), model.adata is not None and model.minified_data_type is None
    has_bound = not is_scanvi and model.module.latent_distribution == "normal"
    fields = tuple(c.name for c in peer.categorical)
    history = _history(model)
    split = _split(model) if has_cells else pd.Series(dtype=str)
    parts = split.value_counts()
    return EvaluatedModel(
        schema=Schema(peer.genes, Kind.COUNTS, categorical=peer.categorical),
        split=split,
        n_latent=int(model.module.n_latent),
        given=fields if model.module.encode_covariates else (),
        labels={peer.label: peer.labels} if is_scanvi else {},
        facts={
            "Recipe": f"{type(model).__name__} (scvi-tools {version('scvi-tools')})",
            "Cells": ", ".join(f"{n:,} {part}" for part, n in parts.items()) or "unknown",
            "Genes": f"{len(peer.genes):,}",
            "Values": f"counts, likelihood {model.module.gene_likelihood}",
            "Conditions": ", ".join(fields) or "none",
            "Latent dimensions": str(model.module.n_latent),
        },
        history=history,
        best_epoch=0 if history is None else int(history["validation_loss"].argmin()) + 1,
        ended="scvi-tools keeps the last weights",
        was_trained_on=partial(_was_trained_on, model) if has_cells else None,
        embed=peer.embed,
        log_weights=peer.log_weights if has_bound else None,
        likelihoods=peer.likelihoods,
        denoise=peer.denoise,
        generate=peer.generate if has_cells else None,
        counterfactual=peer.counterfactual if peer.categorical else None,
        classify=peer.classify if is_scanvi else None,
    )


class _Peer:
    """A model of scvi-tools, and how its registry names things."""

    def __init__(self, model: Any, control: Mapping[str, str]) -> None:
        self.model = model
        manager = model.adata_manager
        arguments = manager.registry["setup_args"]
        self.layer, self.label = arguments.get("layer"), arguments.get("labels_key")
        self.batch = arguments.get("batch_key")
        self.genes = tuple(map(str, manager.get_state_registry("X").column_names))
        mappings = {self.batch: manager.get_state_registry("batch").categorical_mapping} if self.batch else {}
        if names := arguments.get("categorical_covariate_keys"):
            found = manager.get_state_registry(COVARIATES).mappings
            mappings |= {name: found[name] for name in names}
        self.covariates = list(names or [])
        self.categorical = tuple(
            Categorical(name, tuple(map(str, each)), control.get(name), name == self.batch and name not in control)
            for name, each in mappings.items()
        )
        labels = manager.get_state_registry("labels").categorical_mapping
        unlabeled = getattr(model, "unlabeled_category_", None)
        self.labels = tuple(str(label) for label in labels if label != unlabeled)

    def embed(self, cells: AnnData) -> Numbers:
        """Return the posterior means."""
        found = [inferred["qz"].loc for inferred, _ in self._passes(self._tensors(cells), 1)]
        return np.asarray(torch.cat(found).cpu().numpy())

    def likelihoods(self, cells: AnnData, n_draws: int, seed: int) -> Iterator[Decoded]:
        """Yield p(x | z) for draws of z from the posterior of every cell."""
        tensors = self._tensors(cells)
        with seeded(self.model.module, seed):
            for each, (_, made) in zip(tensors, self._passes(tensors, n_draws), strict=True):
                x_ng = each["X"].float()
                yield Decoded(ExpressionRows.from_dense(x_ng), x_ng.sum(1, keepdim=True), as_ours(made["px"]))

    def log_weights(self, cells: AnnData, n_draws: int, seed: int) -> Numbers:
        """Return log p(x, z) − log q(z | x) of draws of z, and of the library size where it is latent too."""
        tensors = self._tensors(cells)
        rounds = []
        with seeded(self.model.module, seed):
            for some in torch.arange(n_draws).split(AT_ONCE):
                passes = zip(tensors, self._passes(tensors, len(some)), strict=True)
                rounds.append(torch.cat([_log_weights(each["X"], *both) for each, both in passes], 1))
        return np.asarray(torch.cat(rounds).double().cpu().numpy())

    def denoise(self, cells: AnnData, n_draws: int, seed: int) -> Numbers:
        """Return the expected counts, averaged over draws of z."""
        found = [each.p.mean.mean(0).cpu() for each in self.likelihoods(cells, n_draws, seed)]
        return np.asarray(torch.cat(found).numpy())

    def counterfactual(self, cells: AnnData, condition: Mapping[str, str], seed: int) -> Numbers:
        """Encode cells in their own condition, decode them in another, and keep the rank of each count."""
        tensors = self._tensors(cells)
        found = []
        with seeded(self.model.module, seed):
            for each, (inferred, made) in zip(tensors, self._passes(tensors, 1), strict=True):
                target = as_ours(self._generative(self._in(each, condition), inferred)["px"])
                found.append(as_ours(made["px"]).quantile_map(each["X"], target).cpu())
        return np.asarray(torch.cat(found).numpy())

    def generate(self, n: int, condition: Mapping[str, str], seed: int) -> Numbers:
        """Draw z from the posterior of training cells of the condition, each once before any twice; then counts."""
        obs, rows = self.model.adata.obs, np.asarray(self.model.train_indices)
        of_condition = np.all(
            [category_names(obs[name]) == value for name, value in condition.items()] or [True], axis=0
        )
        rows = rows[of_condition[rows]] if condition else rows
        if not len(rows):
            raise DataError(f"No training cell of this model has the condition {dict(condition)}.")
        tensors = self._tensors(self.model.adata[np.resize(np.random.default_rng(seed).permutation(rows), n)])
        with seeded(self.model.module, seed):
            found = [made["px"].sample().cpu() for _, made in self._passes(tensors, 1)]
        return np.asarray(torch.cat(found).numpy())

    def classify(self, cells: AnnData, field: str, seed: int) -> pd.DataFrame:  # noqa: ARG002 - as the verb is called
        """Return the most probable label of every cell, with its probability."""
        with _quiet():
            given = self.model._validate_anndata(self._prepared(cells))
            table = self.model.predict(given, soft=True)
            self._forget(given)
        p_nc = table.to_numpy()
        labels = table.columns.to_numpy()[p_nc.argmax(1)]
        return pd.DataFrame({"label": labels, "probability": p_nc.max(1)}, index=cells.obs_names)

    def _prepared(self, cells: AnnData) -> AnnData:
        """Return a copy of cells as the model's registry wants it, with labels hidden."""
        given = cells[:, list(self.genes)].copy()
        given.obs_names_make_unique()
        if self.layer:
            given.layers[self.layer] = given.X
        if self.label:
            given.obs[self.label] = getattr(self.model, "unlabeled_category_", self.labels[0])
        return given

    def _tensors(self, cells: AnnData) -> list[Tensors]:
        with _quiet():
            given = self.model._validate_anndata(self._prepared(cells))
            loader = self.model._make_data_loader(adata=given, batch_size=BATCH_SIZE)
            device = self.model.device
            found = [{name: each.to(device) for name, each in tensors.items()} for tensors in loader]
            self._forget(given)
        return found

    def _forget(self, given: AnnData) -> None:
        """Remove cells from the registry of the model, which would keep them in memory."""
        self.model._per_instance_manager_store[self.model.id].pop(given.uns["_scvi_manager_uuid"], None)

    def _passes(self, minibatches: list[Tensors], n_draws: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield what the encoder and then the decoder say of every minibatch."""
        module = self.model.module
        module.eval()
        for tensors in minibatches:
            with torch.no_grad():
                inferred = module.inference(**module._get_inference_input(tensors), n_samples=n_draws)
                made = self._generative(tensors, inferred)
            yield inferred, made

    def _generative(self, tensors: Tensors, inferred: dict[str, Any]) -> dict[str, Any]:
        module = self.model.module
        with torch.no_grad():
            made: dict[str, Any] = module.generative(**module._get_generative_input(tensors, inferred))
        return made

    def _in(self, tensors: Tensors, condition: Mapping[str, str]) -> Tensors:
        """Put another condition into a minibatch."""
        changed = dict(tensors)
        fields = {c.name: c for c in self.categorical}
        for name, value in condition.items():
            code = fields[name].code(value)
            if name == self.batch:
                changed["batch"] = torch.full_like(changed["batch"], code)
            else:
                changed[COVARIATES] = changed[COVARIATES].clone()
                changed[COVARIATES][:, self.covariates.index(name)] = code
        return changed


def _log_weights(x_ng: Tensor, inferred: Mapping[str, Any], made: Mapping[str, Any]) -> Tensor:
    z, qz, pz = inferred["z"], inferred["qz"], made["pz"]
    log_w: Tensor = made["px"].log_prob(x_ng).sum(-1) + (pz.log_prob(z) - qz.log_prob(z)).sum(-1)
    if inferred["ql"] is None:
        return log_w
    size = inferred["library"]
    weighted: Tensor = log_w + (made["pl"].log_prob(size) - inferred["ql"].log_prob(size)).sum(-1)
    return weighted


def as_ours(px: Any) -> ExpressionDistribution:
    """Return a likelihood of scvi-tools as a distribution of this package."""
    kind = type(px).__name__
    if kind == "ZeroInflatedNegativeBinomial":
        return ZeroInflated(NegativeBinomial(px.mu, px.theta), px.zi_logits)
    if kind == "NegativeBinomial":
        return NegativeBinomial(px.mu, px.theta)
    return Poisson(px.rate) if kind == "Poisson" else Normal(px.loc, px.scale)


def _split(model: Any) -> pd.Series[str]:
    """Return the part of every cell of the model's training."""
    part = pd.Series("new", index=model.adata.obs_names, dtype=object)
    for name, rows in (("test", "test_indices"), ("validation", "validation_indices"), ("training", "train_indices")):
        found = getattr(model, rows, None)
        if found is not None:
            part.iloc[np.asarray(found, dtype=np.int64)] = name
    return part[part != "new"].astype(str)


def _was_trained_on(model: Any, state: Mapping[str, str]) -> bool:
    obs = model.adata.obs.iloc[np.asarray(model.train_indices)]
    return bool(np.all([category_names(obs[name]) == value for name, value in state.items()], axis=0).any())


def _history(model: Any) -> pd.DataFrame | None:
    """Return minus the bound per epoch; None where it was not computed for validation cells."""
    history = model.history or {}
    if "elbo_train" not in history or "elbo_validation" not in history:
        return None
    losses = pd.concat([history["elbo_train"], history["elbo_validation"]], axis=1).astype(float)
    losses.columns = ["train_loss", "validation_loss"]
    return losses.dropna().reset_index(drop=True).rename_axis("epoch").reset_index().assign(epoch=lambda t: t.epoch + 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what scvi-tools says of data that it sets up."""
    logger = logging.getLogger("scvi")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
