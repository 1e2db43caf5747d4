"""The laws of the Gaussian likelihood's σ."""

from __future__ import annotations

import pytest
import torch
from tests.models.test_battery import SMALL, G, K, N, build

from genevae.models.likelihoods import NormalLikelihood
from genevae.models.likelihoods.normal import MIN_SCALE
from genevae.recipes.gaussian import GAUSSIAN
from genevae.runs.fit import fit


def likelihood(**settings) -> NormalLikelihood:
    part = build(GAUSSIAN.edit({**SMALL, **settings}))._likelihood
    assert isinstance(part, NormalLikelihood)
    return part


def scale_g(part: NormalLikelihood, cells) -> torch.Tensor:
    return part(torch.zeros(N, K), cells.condition).scale


@pytest.fixture
def cells(make_cells):
    return make_cells(N, G, counts=False, stored=False)


def test_a_fixed_sigma_makes_the_loss_the_squared_error(cells):
    part = likelihood(sigma="fixed")
    p = part(torch.randn(N, K), cells.condition)
    constant = 0.5 * G * torch.log(torch.tensor(torch.pi))
    expected = -(cells.x.dense() - p.mean).square().sum(-1) - constant
    torch.testing.assert_close(p.log_prob_n(cells.x), expected, rtol=1e-4, atol=1e-4)
    assert not [name for name, _ in part.named_parameters() if "scale" in name]


def test_sigma_reaches_the_residuals_of_every_gene_in_a_few_hundred_steps(cells):
    part, generator = likelihood(), torch.Generator().manual_seed(0)
    sigma_g = torch.logspace(-1, 0.5, G)
    mean_ng = part(torch.zeros(N, K), cells.condition).mean.detach()
    optimizer = torch.optim.Adam([part.log_scale_tenth_g], lr=1e-3, eps=1e-2)
    for _ in range(400):
        x_ng = mean_ng + sigma_g * torch.randn(N, G, generator=generator)
        optimizer.zero_grad()
        (-part(torch.zeros(N, K), cells.condition).log_prob(x_ng).sum(-1).mean()).backward()
        optimizer.step()
    torch.testing.assert_close(scale_g(part, cells).detach(), sigma_g, rtol=0.15, atol=0)


def test_sigma_comes_back_from_its_lower_limit(cells):
    part = likelihood()
    with torch.no_grad():
        part.log_scale_tenth_g.fill_(-0.6)
    p = part(torch.zeros(N, K), cells.condition)
    assert (p.scale >= MIN_SCALE).all()
    (-p.log_prob(p.mean.detach() + 1).sum(-1).mean()).backward()
    assert (part.log_scale_tenth_g.grad < -1).all(), "a step enlarges σ"


def test_a_former_state_loads_as_the_same_sigma(cells):
    part = likelihood()
    state = dict(part.state_dict())
    del state["log_scale_tenth_g"]
    state["log_scale_g"] = torch.linspace(-6, 1, G)
    part.load_state_dict(state)
    expected = state["log_scale_g"].clamp(min=-4.6).exp()
    torch.testing.assert_close(scale_g(part, cells).detach(), expected, rtol=0.02, atol=0)


def test_a_fit_with_fixed_sigma_minimises_squared_error(adata):
    options = {"epochs": 2, "batch_size": 16, "progress": False, "device": "cpu"}
    model = fit(adata, "gaussian", setting={"sigma": "fixed"}, **options)
    assert model.recipe.settings()["sigma"] == "fixed"
    assert model.history["validation_loss"].notna().all()
