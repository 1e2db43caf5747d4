"""Batch-norm statistics that are estimated again: those of the current weights, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.models.vae import VAE
from genevae.recipes.registry import RECIPES
from genevae.runs.fit import fit
from genevae.training.batch_norm import reestimate_norm

CPU = torch.device("cpu")
SCHEMA = Schema(tuple("abcdefg"), Kind.LOG)


@pytest.fixture
def model() -> VAE:
    torch.manual_seed(0)
    built = RECIPES["bulk"].edit({"n_latent": 2, "hidden": (8,), "components": False}).build(SCHEMA)
    with torch.no_grad():
        for norm in norms(built):
            norm.running_mean.fill_(7.0)
            norm.num_batches_tracked.fill_(5)
    return built


def norms(model: VAE) -> list[nn.BatchNorm1d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]


def test_the_statistics_are_those_of_the_cells_that_come_in(model, make_cells):
    minibatches = [make_cells(12, counts=False, stored=False, seed=seed) for seed in range(3)]
    posterior = model._posterior
    weight, bias = posterior.expression.weight_gh.detach().numpy(), posterior.expression.bias_h.detach().numpy()
    h = [cells.x.dense().numpy() @ weight + bias for cells in minibatches]
    reestimate_norm(model, minibatches, CPU)
    first = posterior.after_first[0]
    np.testing.assert_allclose(first.running_mean, np.mean([each.mean(0) for each in h], 0), atol=1e-5)
    np.testing.assert_allclose(first.running_var, np.mean([each.var(0, ddof=1) for each in h], 0), rtol=1e-4)


def test_weights_random_numbers_and_the_layers_own_averaging_stay(model, make_cells):
    weights = {name: p.clone() for name, p in model.named_parameters()}
    averaging = [(norm.momentum, int(norm.num_batches_tracked)) for norm in norms(model)]
    state = torch.get_rng_state()
    reestimate_norm(model, [make_cells(12, counts=False)], CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert [(norm.momentum, int(norm.num_batches_tracked)) for norm in norms(model)] == averaging
    assert not any(module.training for module in model.modules())
    first = [norm.running_mean.clone() for norm in norms(model)]
    reestimate_norm(model, [make_cells(12, counts=False)], CPU)
    assert all(torch.equal(a, b.running_mean) for a, b in zip(first, norms(model), strict=True))


def test_training_takes_the_same_steps_and_validation_sees_current_statistics(adata):
    fast = {"epochs": 3, "batch_size": 12, "n_latent": 3, "hidden": [8], "progress": False, "device": "cpu"}
    plain, fresh = (fit(adata, recipe="bulk", setting={"fresh_norm": f}, **fast).history for f in (False, True))
    np.testing.assert_array_equal(plain["train_loss"], fresh["train_loss"])
    assert (plain["validation_loss"] != fresh["validation_loss"]).all()


def test_the_projection_of_pairs_is_estimated_too(adata):
    fast = {"epochs": 1, "batch_size": 12, "n_latent": 3, "hidden": [8], "progress": False, "device": "cpu"}
    model = fit(adata, recipe="contrastive", group="lane", **fast)
    (norm,) = (m for m in model.module.projection.modules() if isinstance(m, nn.BatchNorm1d))
    assert norm.running_mean.abs().max() > 0.01  # running averages have moved by three hundredths
