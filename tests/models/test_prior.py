"""Priors without a closed form: their densities add up to one, draws follow them, and a model is trained with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from anndata import AnnData
from torch import nn
from torch.distributions import Normal, kl_divergence

import genevae as gv
from genevae.cells import Condition
from genevae.errors import RecipeError
from genevae.models.draws import draw_with_kl
from genevae.models.posterior import MLPPosterior
from genevae.models.prior import FlowPrior, MixturePrior, StandardNormalPrior, VampPrior, log_prior_n
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import LayerStyle
from genevae.nn.norm import BatchNorm

CONDITION = Condition(torch.ones(1, 1))
PRIORS = ("mixture", "vamp", "flow")


def made(name: str, n_latent: int = 2) -> nn.Module:
    torch.manual_seed(1)
    if name == "mixture":
        prior: nn.Module = MixturePrior(4, n_latent)
    elif name == "vamp":
        style = LayerStyle(norm=BatchNorm, dropout=0.1)
        prior = VampPrior(4, MLPPosterior(5, Conditioning({}), (8, 6), n_latent, style))
    else:
        prior = FlowPrior(n_latent, n_layers=3, n_hidden=8)
    with torch.no_grad():
        for parameter in prior.parameters():  # away from where they begin
            parameter.add_(0.4 * torch.randn_like(parameter))
    return prior


@pytest.mark.parametrize("name", PRIORS)
def test_the_density_of_two_dimensions_adds_up_to_one_and_draws_follow_it(name: str) -> None:
    p = made(name)(CONDITION)
    side = torch.linspace(-20, 20, 801)
    grid = torch.cartesian_prod(side, side).unsqueeze(1)
    with torch.no_grad():
        mass = p.log_prob(grid).exp().squeeze(-1) * (side[1] - side[0]) ** 2
        assert mass.sum().item() == pytest.approx(1, abs=2e-3)
        draws = p.sample((40_000,)).squeeze(1)
        expected = (mass.unsqueeze(-1) * grid.squeeze(1)).sum(0)
        torch.testing.assert_close(draws.mean(0), expected, atol=0.06, rtol=0.05)
        torch.testing.assert_close(p.mean.squeeze(0), expected, atol=0.2, rtol=0.1)
        inside = (grid.squeeze(1) < expected).all(-1)
        assert (draws < expected).all(-1).float().mean().item() == pytest.approx(mass[inside].sum().item(), abs=0.02)


def test_the_density_of_one_dimension_adds_up_to_one() -> None:
    line = torch.linspace(-40, 40, 40_001).view(-1, 1, 1)
    for name in ("mixture", "vamp"):
        log_p = made(name, 1)(CONDITION).log_prob(line).detach()
        assert torch.trapezoid(log_p.exp().squeeze(), line.squeeze()).item() == pytest.approx(1, abs=1e-4)


def test_a_flow_begins_as_a_standard_normal() -> None:
    z_snk = torch.randn(3, 2, 5)
    condition = Condition(torch.ones(2, 1))
    flow, normal = FlowPrior(5)(condition), StandardNormalPrior(5)(condition)
    torch.testing.assert_close(log_prior_n(flow, z_snk), log_prior_n(normal, z_snk))


@pytest.mark.parametrize("name", PRIORS)
def test_gradients_reach_every_weight_and_cells_decide_batch_norm(name: str) -> None:
    prior = made(name, 3).train()
    posterior = prior._of[0].train() if name == "vamp" else None
    before = {key: value.clone() for key, value in posterior.state_dict().items()} if posterior else {}
    q = Normal(torch.randn(6, 3, requires_grad=True), torch.ones(6, 3))
    _, kl_n = draw_with_kl(q, prior(Condition(torch.ones(6, 1))), torch.randn(2, 6, 3))
    kl_n.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in prior.parameters())
    if posterior:
        assert all(torch.equal(value, before[key]) for key, value in posterior.state_dict().items())
        assert posterior.training
        assert not [key for key in prior.state_dict() if "posterior" in key], "its weights are saved once"


def test_the_divergence_by_draws_is_that_of_the_closed_form() -> None:
    torch.manual_seed(0)
    q, mixture = Normal(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.7, 1.2]])), MixturePrior(1, 2)
    one = Normal(mixture.mean_mk.detach(), torch.ones(1, 2))
    _, kl_n = draw_with_kl(q, mixture(CONDITION), torch.randn(50_000, 1, 2))
    torch.testing.assert_close(kl_n, kl_divergence(q, one).sum(-1), rtol=0.03, atol=0.0)


@pytest.fixture(scope="module")
def adata(make_adata: Callable[..., AnnData]) -> AnnData:
    return make_adata(160)


@pytest.mark.parametrize("name", PRIORS)
def test_a_model_is_trained_saved_and_draws_from_its_prior(name: str, adata: AnnData, tmp_path) -> None:
    options = {"setting": {"prior": name, "prior_components": 6}, "epochs": 2, "n_latent": 3, "progress": False}
    model = gv.fit(adata, "nb", condition="type", folds=0, **options)
    gv.save(model, tmp_path / "run")
    again = gv.load(tmp_path / "run")
    made = [gv.generate(one, n=20, latent="prior", seed=3).X for one in (model, again)]
    np.testing.assert_array_equal(*[x.toarray() if hasattr(x, "toarray") else x for x in made])
    from genevae.evaluation.adapters import as_evaluated

    weights = [as_evaluated(one).log_weights(adata[:8].copy(), 4, 0) for one in (model, again)]
    np.testing.assert_array_equal(*weights)
    assert np.isfinite(weights[0]).all()


def test_what_a_recipe_cannot_have_is_said(adata: AnnData) -> None:
    with pytest.raises(RecipeError, match="two latent dimensions"):
        gv.fit(adata, "nb", n_latent=1, setting={"prior": "flow"}, epochs=1, progress=False)
    with pytest.raises(RecipeError, match="posterior of dense layers"):
        gv.fit(adata, "convolutional", setting={"prior": "vamp"}, epochs=1, progress=False)
