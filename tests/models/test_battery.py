"""One battery for every likelihood, prior and posterior, and the classifier that every model is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from genevae.cells import Cells, ExpressionRows
from genevae.data.schema import Categorical, Continuous, Schema
from genevae.data.value_kind import Kind
from genevae.distributions import NegativeBinomial
from genevae.models.classifier import Calibration, bounds_nc, fit_temperature, reconstructions_nc
from genevae.models.likelihoods import PerGene
from genevae.models.size import LearnedSize
from genevae.models.vae import VAE
from genevae.recipes.gaussian import GAUSSIAN
from genevae.recipes.nb import NB, POISSON, ZINB

N, G, K = 12, 7, 3
SMALL = {"n_latent": K, "hidden": (8,), "dropout": 0.0}
DISPERSIONS = ("gene", "gene-category", "gene-cell")
PARTS = {
    "normal": GAUSSIAN.edit(SMALL),
    "poisson": POISSON.edit(SMALL),
    **{f"nb-{d}": NB.edit({**SMALL, "dispersion": d}) for d in DISPERSIONS},
    **{f"zinb-{d}": ZINB.edit({**SMALL, "dispersion": d}) for d in DISPERSIONS},
    "prior-conditional": NB.edit({**SMALL, "prior": "conditional"}),
    "posterior-blind": NB.edit({**SMALL, "encode_condition": False}),
    "size-learned": NB.edit({**SMALL, "size": "learned"}),
    "two-layers": NB.edit({"n_latent": K, "hidden": (8, 6), "dropout": 0.1, "norm": "layer", "activation": "elu"}),
}
SCHEMA = Schema(
    tuple(f"G{i}" for i in range(G)),
    Kind.COUNTS,
    categorical=(Categorical("type", ("a", "b", "c")), Categorical("lane", ("x", "y"), technical=True)),
    continuous=(Continuous("dose", 0.0, 1.0, -3.0, 3.0),),
)


def build(recipe, schema: Schema = SCHEMA, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return recipe.build(schema)


@pytest.fixture(params=PARTS)
def named(request):
    return request.param, build(PARTS[request.param])


@pytest.fixture
def model(named) -> VAE:
    return named[1]


@pytest.fixture
def cells(named, make_cells) -> Cells:
    return make_cells(N, G, counts=named[0] != "normal", stored=named[0] != "normal")


def test_every_part_returns_a_distribution_of_the_right_shape(model, cells):
    assert model.posterior(cells).mean.shape == (N, K)
    assert model.prior(cells.condition).mean.shape == (N, K)
    for lead in ((), (4,), (2, 4)):
        p = model.likelihood(torch.randn(*lead, N, K), cells.condition)
        assert p.batch_shape == (*lead, N, G)
        assert p.log_prob_n(cells.x).shape == (*lead, N)


def test_the_bound_gives_every_parameter_a_finite_gradient_that_is_not_zero(model, cells):
    model.train()
    torch.manual_seed(1)
    (-model.bound_n(cells, n_particles=2)).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        before_batch_norm = parameter.grad.abs().max() < 1e-5 and name.endswith(("bias", "bias_h"))
        assert parameter.grad.abs().max() > 1e-8 or before_batch_norm, name


def test_permuting_cells_permutes_the_bound(model, cells):
    model.eval()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    x = ExpressionRows.from_dense(cells.x.dense()[order])
    permuted = Cells(x, cells.condition.map(lambda t: t[order]), cells.row_n[order])
    noise = torch.randn(2, 1, K + (model.size is not None))
    with torch.no_grad():
        one, other = (model.bound_n(each, noise_snk=noise) for each in (cells, permuted))
        torch.testing.assert_close(other, one[order], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.posterior(permuted).mean, model.posterior(cells).mean[order])


def test_one_cell_alone_has_the_bound_that_it_has_among_others(model, cells):
    model.eval()
    noise = torch.zeros(1, 1, K + (model.size is not None))
    with torch.no_grad():
        together = model.bound_n(cells, noise_snk=noise)
        alone = torch.cat([model.bound_n(cells[i : i + 1], noise_snk=noise) for i in range(N)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in PARTS if name != "size-learned"])
def test_the_bound_is_below_the_importance_weighted_bound(name, make_cells):
    model = build(PARTS[name]).eval()
    cells = make_cells(N, G, counts=name != "normal", stored=name != "normal")
    torch.manual_seed(0)
    with torch.no_grad():
        q = model.posterior(cells)
        z = q.sample((400,))
        log_w = model.likelihood(z, cells.condition).log_prob_n(cells.x) + (
            model.prior(cells.condition).log_prob(z) - q.log_prob(z)
        ).sum(-1)
        weighted = torch.logsumexp(log_w, 0) - np.log(400)
        bound = model.bound_n(cells, n_particles=400)
    assert bound.mean() < weighted.mean()


@pytest.mark.parametrize("name", [name for name in PARTS if name != "normal"])
def test_expected_counts_sum_to_the_size(name, make_cells):
    model, cells = build(PARTS[name]).eval(), make_cells(N, G)
    p = model.likelihood(torch.randn(2, N, K), cells.condition)
    mean = p.base.mean if name.startswith("zinb") else p.mean
    torch.testing.assert_close(mean.sum(-1), cells.condition.size_n1.squeeze(-1).expand(2, N))


@pytest.mark.parametrize(
    ("dispersion", "same_cells", "same_fields"), [("gene", 1, 1), ("gene-category", 0, 1), ("gene-cell", 0, 0)]
)
def test_dispersion_depends_on_what_it_says(dispersion, same_cells, same_fields, make_cells):
    model, cells = build(NB.edit({**SMALL, "dispersion": dispersion})).eval(), make_cells(N, G)
    for name, parameter in model.named_parameters():
        if "log_theta" in name:
            torch.nn.init.normal_(parameter)
    theta = model.likelihood(torch.randn(N, K), cells.condition).inverse_dispersion.expand(N, G)
    assert bool((theta == theta[:1]).all()) == bool(same_cells)
    lane = cells.condition.codes["lane"]
    first = theta[lane == lane[0]]
    assert bool((first == first[:1]).all()) == bool(same_fields)


@pytest.mark.parametrize("parameter", [-100.0, 100.0])
def test_a_dispersion_is_between_a_millionth_and_a_million(parameter, make_cells):
    learned = PerGene(3)
    torch.nn.init.constant_(learned.log_theta_tenth_g, parameter)
    theta_g = learned(torch.zeros(1), make_cells(2).condition)
    assert (theta_g > 0.9e-6).all()
    assert (theta_g < 1.1e6).all()


def test_a_dispersion_is_learned_in_the_few_steps_that_small_data_allow():
    torch.manual_seed(0)
    mean, theta = torch.full((400, 3), 5.0), torch.tensor([0.2, 1.0, 8.0])
    x, learned = NegativeBinomial(mean, theta).sample(), PerGene(3)
    optimiser = torch.optim.Adam(learned.parameters(), lr=1e-3)
    for _ in range(400):
        optimiser.zero_grad()
        (-NegativeBinomial(mean, learned(mean, None)).log_prob(x).sum()).backward()
        optimiser.step()
    found = learned(mean, None).detach()
    assert ((found / theta).log().abs() < 0.5).all()


def test_the_bound_of_a_negative_binomial_model_is_scipys(make_cells):
    model, cells = build(NB.edit(SMALL)).eval().double(), make_cells(N, G, stored=False)
    cells = Cells(cells.x.to("cpu", torch.float64),
                  cells.condition.map(lambda t: t.double() if t.is_floating_point() else t), cells.row_n)  # fmt: skip
    noise = torch.randn(3, N, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        terms = model.terms(cells, noise_snk=noise)
        q = model.posterior(cells)
        mean, sd = q.mean.numpy(), q.scale.numpy()
        kl = (0.5 * (mean**2 + sd**2 - 1) - np.log(sd)).sum(-1)
        p = model.likelihood(q.mean + q.scale * noise, cells.condition)
        theta = p.inverse_dispersion.numpy()
        log_px = stats.nbinom.logpmf(cells.x.dense().numpy(), theta, theta / (theta + p.mean.numpy())).sum(-1)
    np.testing.assert_allclose(terms.kl_n.numpy(), kl, rtol=1e-10)
    np.testing.assert_allclose(terms.log_px_sn.numpy(), log_px, rtol=1e-10)
    np.testing.assert_allclose(terms.bound_n.numpy(), log_px.mean(0) - kl, rtol=1e-10)


def test_the_bound_of_a_gaussian_model_is_torchs(make_cells):
    model, cells = (
        build(GAUSSIAN.edit({**SMALL, "prior": "conditional"})).eval(),
        make_cells(N, G, counts=False, stored=False),
    )
    noise = torch.randn(3, N, K, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        q = model.posterior(cells)
        p = model.likelihood(q.mean + q.scale * noise, cells.condition)
        expected = Normal(p.mean, p.scale.expand_as(p.mean)).log_prob(cells.x.dense()).sum(-1).mean(0)
        expected = expected - kl_divergence(q, model.prior(cells.condition)).sum(-1)
        torch.testing.assert_close(model.bound_n(cells, noise_snk=noise), expected, rtol=1e-5, atol=1e-4)


def test_a_blind_posterior_and_a_standard_prior_ignore_the_condition(make_cells):
    model, cells = build(NB.edit({**SMALL, "encode_condition": False})).eval(), make_cells(N, G)
    other = cells.given(cells.condition.replace(codes={"type": (cells.condition.codes["type"] + 1) % 3}))
    assert torch.equal(model.posterior(cells).mean, model.posterior(other).mean)
    prior = model.prior(cells.condition)
    assert (prior.mean == 0).all()
    assert (prior.scale == 1).all()
    seeing = build(NB.edit({**SMALL, "prior": "conditional"})).eval()
    assert not torch.equal(seeing.posterior(cells).mean, seeing.posterior(other).mean)
    assert not torch.equal(seeing.prior(cells.condition).mean, seeing.prior(other.condition).mean)


def test_a_learned_size_takes_its_prior_from_each_technical_batch(make_cells):
    model, cells = build(NB.edit({**SMALL, "size": "learned"})), make_cells(40, G)
    assert isinstance(model.size, LearnedSize)
    model.size.fit([cells[:25], cells[25:]])
    log_size, lane = cells.condition.size_n1.log().squeeze(-1), cells.condition.codes["lane"]
    for b in (0, 1):
        assert model.size.mean_b[b].item() == pytest.approx(log_size[lane == b].mean().item(), rel=1e-5)
        assert model.size.scale_b[b].item() == pytest.approx(log_size[lane == b].std().item(), rel=1e-5)
    prior = model.size.prior(cells.condition)
    assert torch.equal(prior.mean.squeeze(-1), model.size.mean_b[lane])


def test_a_learned_size_replaces_the_observed_one_and_costs_its_divergence(make_cells):
    model, cells = build(NB.edit({**SMALL, "size": "learned"})).eval(), make_cells(N, G)
    with torch.no_grad():
        sized = model.sized(cells)
        torch.testing.assert_close(sized.size_n1, model.size.posterior(cells).mean.exp())
        noise = torch.zeros(1, 1, K + 1)
        terms = model.terms(cells, noise_snk=noise)
        kl = kl_divergence(model.posterior(cells), model.prior(cells.condition)).sum(-1)
        kl_size = kl_divergence(model.size.posterior(cells), model.size.prior(cells.condition)).sum(-1)
        torch.testing.assert_close(terms.kl_n, kl + kl_size)
        at_median = model.likelihood(model.posterior(cells).mean, sized).log_prob_n(cells.x)
        torch.testing.assert_close(terms.log_px_sn[0], at_median)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 20.0])
def test_the_temperature_that_made_the_labels_is_found_again(temperature):
    generator = torch.Generator().manual_seed(0)
    log_prior = np.log([0.5, 0.3, 0.2])
    score = temperature * 2 * torch.randn(6000, 3, generator=generator, dtype=torch.float64)
    p = Calibration(temperature, tuple(log_prior)).probability_nc(score)
    code = torch.multinomial(p, 1, generator=generator).squeeze(-1)
    assert fit_temperature(score, code, tuple(log_prior)) == pytest.approx(temperature, rel=0.1)


def test_calibrated_probabilities_sum_to_one_and_survive_json():
    calibration = Calibration(2.5, (-1.0, -0.5))
    p = calibration.probability_nc(torch.tensor([[-1e4, 0.0], [3.0, 3.0]]))
    torch.testing.assert_close(p.sum(-1), torch.ones(2))
    assert p[1, 1] > p[1, 0]
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize(("field", "n_categories", "size", "max_cells"),
                         [(*f, s, m) for f, s, m in product([("type", 3), ("lane", 2)], ["observed", "learned"],
                                                            [2048, 20])])  # fmt: skip
def test_bounds_of_all_categories_are_those_of_each_with_one_noise(
    field, n_categories, size, max_cells, make_cells, monkeypatch
):
    monkeypatch.setattr("genevae.models.classifier.MAX_CELLS", max_cells)
    model, cells = build(NB.edit({**SMALL, "size": size})).eval(), make_cells(N, G)
    found = bounds_nc(model, cells, field, range(n_categories), torch.Generator().manual_seed(5))
    again = bounds_nc(model, cells, field, range(n_categories), torch.Generator().manual_seed(5))
    assert torch.equal(found, again)
    noise = torch.randn(4, 1, K + (size == "learned"), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        for code in range(n_categories):
            asked = cells.condition.replace(codes={field: torch.full((N,), code)})
            expected = model.bound_n(cells.given(asked), noise_snk=noise)
            torch.testing.assert_close(found[:, code], expected, rtol=1e-4, atol=1e-3)


def test_reconstructions_of_all_categories_are_those_of_each(make_cells):
    model, cells = build(NB.edit(SMALL)).eval(), make_cells(N, G)
    found = reconstructions_nc(model, cells, "type", range(3))
    with torch.no_grad():
        for code in range(3):
            asked = cells.given(cells.condition.replace(codes={"type": torch.full((N,), code)}))
            z = model.posterior(asked).mean
            expected = model.likelihood(z, asked.condition).log_prob(cells.x.dense()).sum(-1)
            torch.testing.assert_close(found[:, code], expected, rtol=1e-4, atol=1e-3)
