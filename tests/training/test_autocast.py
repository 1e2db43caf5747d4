"""Half precision is close to whole, compiled code is close to interpreted, and several parts are one minibatch."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from genevae.data.schema import Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError
from genevae.nn.mlp import MLP
from genevae.objectives.elbo import ELBO
from genevae.recipes.registry import RECIPES
from genevae.runs.fit import fit
from genevae.training import autocast
from genevae.training.autocast import compiled, half_precision, networks
from genevae.training.loop import take_step
from genevae.training.settings import Training
from genevae.training.state import State
from genevae.training.world import World

CPU = torch.device("cpu")
PLAIN = ("nb", "zinb", "poisson", "gaussian", "conditional", "bulk", "convolutional", "convolutional-nb")
SMALL = {"batch_size": 16, "n_latent": 3, "hidden": (16, 8), "progress": False, "device": "cpu"}


@pytest.fixture
def schema():
    return Schema(tuple("ABCDEFG"), Kind.COUNTS, categorical=(Categorical("type", ("a", "b", "c")),))


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
@pytest.mark.parametrize("name", PLAIN)
def test_losses_of_half_precision_are_close_and_float32(name, kind, schema, make_cells):
    torch.manual_seed(0)
    recipe = RECIPES[name].edit({"n_latent": 3, "hidden": (16, 8), "dropout": 0.0})
    model, objective, cells = recipe.build(schema), recipe.make_objective(schema, 3), make_cells(64)
    model.train(), objective.train()
    torch.manual_seed(1)
    whole = objective(model, cells)
    with half_precision((model, objective), kind, CPU):
        torch.manual_seed(1)
        half = objective(model, cells)
        half.total.backward()
        assert model.posterior(cells).mean.dtype == torch.float32
        assert model.likelihood(torch.zeros(64, 3), cells.condition).mean.dtype == torch.float32
    assert half.total.dtype == half.per_cell_n.dtype == torch.float32
    torch.testing.assert_close(half.total, whole.total, rtol=0.01, atol=0.01)
    assert not torch.equal(half.per_cell_n, whole.per_cell_n), "or else nothing was lowered"
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_a_fit_in_half_precision_comes_to_the_same_loss(kind, make_adata):
    words = {**SMALL, "condition": ["type"], "epochs": 15, "learning_rate": 0.01}
    whole = fit(make_adata(), **words).history
    half = fit(make_adata(), **words, precision=kind).history
    assert whole["validation_loss"].iloc[-1] < whole["validation_loss"].iloc[0] - 2
    assert half["validation_loss"].min() == pytest.approx(whole["validation_loss"].min(), rel=0.02)


def test_the_model_is_as_it_was_afterwards(schema, make_cells):
    model, cells = RECIPES["nb"].build(schema).eval(), make_cells(8)
    before, names = model.posterior(cells).mean, list(model.state_dict())
    for context in (half_precision((model,), "bf16", CPU), compiled((model,), CPU)):
        with context:
            assert list(model.state_dict()) == names
        assert torch.equal(model.posterior(cells).mean, before)
    assert not any("forward" in vars(module) for module in model.modules())
    copy.deepcopy(model)


def test_a_recipe_without_such_layers_refuses(make_adata):
    with pytest.raises(RecipeError, match="no layers that could compute in bf16"):
        fit(make_adata(40), recipe="cycle", condition=["type"], precision="bf16", epochs=1, progress=False)


def test_an_unknown_precision_names_the_nearest(adata):
    with pytest.raises(RecipeError, match=r"precision cannot be 'bf61'. Did you mean 'bf16'"):
        fit(adata, precision="bf61", **SMALL)


def test_a_device_that_cannot_is_named(monkeypatch):
    def refuse(*args):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(autocast, "_in_half", refuse)
    with pytest.raises(RecipeError, match="The device 'cpu' cannot compute in fp16: no such kernel"), \
         half_precision((nn.Linear(2, 2),), "fp16", CPU):  # fmt: skip
        pass


def test_only_the_outermost_networks_are_taken(schema):
    found = networks((RECIPES["nb"].edit({"hidden": (8, 8)}).build(schema),))
    assert any(isinstance(network, MLP) for network in found)
    inner = {id(module) for network in found for module in network.modules() if module is not network}
    assert not inner & {id(network) for network in found}


def test_where_nothing_can_be_compiled_one_line_says_so(make_adata, monkeypatch, capsys):
    def refuse(self, *args, **kwargs):
        raise RuntimeError("no compiler was found\nand much more")

    words = {**SMALL, "epochs": 2}
    plain = fit(make_adata(60), **words)
    monkeypatch.setattr(nn.Module, "compile", refuse)
    told = fit(make_adata(60), **words, compile=True)
    assert capsys.readouterr().err.count("\n") == 1
    assert all(torch.equal(a, b) for a, b in zip(plain.module.parameters(), told.module.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler has warnings of its own
def test_compiled_layers_come_to_the_same_loss(make_adata, tmp_path, capsys):
    words = {**SMALL, "epochs": 4, "setting": {"dropout": 0.0}}
    plain, quick = fit(make_adata(60), **words), fit(make_adata(60), **words, compile=True)
    if "nothing is compiled" in capsys.readouterr().err:
        pytest.skip("there is no compiler here")
    np.testing.assert_allclose(plain.history["validation_loss"], quick.history["validation_loss"], rtol=1e-4)
    assert list(plain.module.state_dict()) == list(quick.module.state_dict())


class WithoutNoise(ELBO):
    """The bound at the posterior's mean, so that nothing is drawn."""

    def terms(self, model, cells):
        return model.terms(cells, noise_snk=torch.zeros(1, cells.n_cells, 3))


@pytest.mark.parametrize("sizes", [(12,), (4, 4, 4), (5, 5, 2)])
def test_the_gradient_of_parts_is_that_of_the_whole(sizes, schema, make_cells):
    class Stub:
        schema = type("S", (), {"genes": tuple("ABCDEFG")})
        source = type("S", (), {"obs": type("O", (), {"index": ()})})
        sampler = type("S", (), {"n_cells": 12})

        def __len__(self):
            return 1

    def stepped(parts):
        torch.manual_seed(0)
        model = (
            RECIPES["nb"].edit({"n_latent": 3, "hidden": (8,), "dropout": 0.0, "norm": "layer"}).build(schema).double()
        )
        settings = Training(epochs=1, accumulate=len(parts))
        state = State.begin(model, WithoutNoise(), Stub(), settings, CPU, World())
        take_step(state, parts, clip=1e9)
        assert state.step == 1
        assert state.running.minibatches == len(parts)
        return {name: p.grad for name, p in model.named_parameters()}, state.running.means.result()

    cells = make_cells(12)
    doubled = cells.given(cells.condition.map(lambda t: t.double() if t.is_floating_point() else t))
    doubled = type(doubled)(doubled.x.map(lambda values: values.double()), doubled.condition, doubled.row_n)
    ends = np.cumsum((0, *sizes))
    whole, losses = stepped([doubled])
    parts, same = stepped([doubled[a:b] for a, b in pairwise(ends)])
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12)
    assert losses == pytest.approx(same, rel=1e-9)


def test_an_epoch_of_parts_has_fewer_steps(make_adata):
    one = fit(make_adata(80), epochs=2, **SMALL)
    four = fit(make_adata(80), epochs=2, accumulate=4, **SMALL)
    assert one.history["step"].tolist() == [5, 10]
    assert four.history["step"].tolist() == [2, 4]


@pytest.mark.parametrize("n", [0, -1])
def test_no_minibatches_in_a_step_are_an_error(n, adata):
    with pytest.raises(RecipeError, match="accumulate must be 1 or more"):
        fit(adata, accumulate=n, **SMALL)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_half_precision_on_a_gpu_comes_to_the_same_loss(kind, make_adata):
    words = {**SMALL, "device": "cuda", "condition": ["type"], "epochs": 25, "learning_rate": 0.01}
    whole = fit(make_adata(), **words).history
    half = fit(make_adata(), **words, precision=kind).history
    np.testing.assert_allclose(half["validation_loss"].iloc[-1], whole["validation_loss"].iloc[-1], rtol=0.02)
