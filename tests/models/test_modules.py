"""Plain modules are the models of the recipes, on tensors."""

from __future__ import annotations

import pytest
import torch

import genevae as gv
from genevae.data.schema import Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.recipes.registry import RECIPES

N, G, K = 40, 12, 3
MODULES = {"gaussian": gv.modules.CVAE, "nb": gv.modules.CVAE_NB, "zinb": gv.modules.CVAE_ZINB}


@pytest.fixture(params=MODULES)
def name(request) -> str:
    return request.param


def data(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    condition = torch.randint(2, (N,))
    rate = 2.0 + 6.0 * (torch.arange(G) < 4) * condition[:, None]
    x = torch.poisson(rate)
    return (x if name != "gaussian" else x.log1p()), condition


def test_the_loss_is_minus_the_bound_of_the_recipes_model(name):
    x, condition = data(name)
    torch.manual_seed(1)
    module = MODULES[name](G, K, 2, (8,), dropout=0.0).eval()
    schema = Schema(tuple(map(str, range(G))), Kind.COUNTS, categorical=(Categorical("condition", ("a", "b")),))
    model = RECIPES[name].edit({"n_latent": K, "hidden": (8,), "dropout": 0.0}).build(schema).eval()
    model.load_state_dict(module.vae.state_dict())
    torch.manual_seed(2)
    loss = module.loss(x, condition)
    torch.manual_seed(2)
    bound_n = model.bound_n(module._cells(x, condition))
    torch.testing.assert_close(loss, -bound_n.mean())


def test_forward_is_encode_draw_decode(name):
    x, condition = data(name)
    module = MODULES[name](G, K, 2).eval()
    p, q, z = module(x, condition)
    assert (tuple(p.mean.shape), tuple(q.mean.shape), tuple(z.shape)) == ((N, G), (N, K), (N, K))
    size = x.sum(-1, keepdim=True)
    torch.testing.assert_close(module.decode(z, condition, size).mean, p.mean)
    torch.testing.assert_close(module.encode(x, condition).mean, q.mean)


def test_a_loop_of_ones_own_learns_the_condition(name):
    x, condition = data(name)
    module = MODULES[name](G, K, 2, (16,))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        loss = module.loss(x, condition)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
    low, high = (
        module.sample(500, code, size=float(x[condition == code].sum(-1).mean()))[:, :4].mean() for code in (0, 1)
    )
    assert high > low + (1 if name != "gaussian" else 0.3)
    assert module.training, "sampling leaves the mode as it was"


def test_sizes_scale_counts(name):
    module = MODULES[name](G, K, 2).eval()
    z, condition = torch.zeros(1, K), torch.zeros(1, dtype=torch.int64)
    one, two = (module.decode(z, condition, size).mean.sum().item() for size in (100.0, 200.0))
    assert two == pytest.approx(one if name == "gaussian" else 2 * one, rel=1e-4)


def test_wrong_input_is_named(name):
    module = MODULES[name](G, K, 2)
    with pytest.raises(ValueError, match=r"cells × 12 genes, not of shape \(5, 3\)"):
        module.loss(torch.zeros(5, 3), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="the category of each cell, 0 to 1"):
        module.loss(torch.zeros(5, G))
    with pytest.raises(ValueError, match="takes no condition"):
        MODULES[name](G, K).loss(torch.zeros(5, G), torch.zeros(5, dtype=torch.int64))
