"""One battery for every distribution of expression: laws, SciPy as the oracle, sparse as dense, and limits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

from genevae.cells import ExpressionRows
from genevae.distributions import ExpressionDistribution, NegativeBinomial, Normal, Poisson, ZeroInflated
from genevae.distributions.expression import _PickEntries
from genevae.distributions.lgamma_difference import LogCoefficient, digamma_difference
from genevae.distributions.negative_binomial import _SparseLogProb

N, G = 6, 5


class Negbin:
    """SciPy's negative binomial, by mean and inverse dispersion."""

    def __init__(self, mean, theta):
        self._frozen = stats.nbinom(theta, theta / (theta + mean))

    def logp(self, x):
        return self._frozen.logpmf(x)

    def cdf(self, x):
        return self._frozen.cdf(x)


class Frozen:
    """A distribution of SciPy's as it is."""

    def __init__(self, frozen):
        self._frozen = frozen

    def logp(self, x):
        return self._frozen.logpdf(x) if hasattr(self._frozen.dist, "logpdf") else self._frozen.logpmf(x)

    def cdf(self, x):
        return self._frozen.cdf(x)


class Inflated:
    """Zero inflation of another oracle."""

    def __init__(self, base, logits):
        self._base, self._logits = base, logits

    def logp(self, x):
        closed = -np.logaddexp(0, self._logits) + self._base.logp(x)
        return np.where(x == 0, np.logaddexp(-np.logaddexp(0, -self._logits), closed), closed)

    def cdf(self, x):
        gate = special.expit(self._logits)
        return gate + (1 - gate) * self._base.cdf(x)


@dataclass(frozen=True)
class Case:
    """A distribution, its oracle, and the shapes and ranges of its parameters."""

    make: Callable[..., ExpressionDistribution]
    oracle: Callable[..., object]
    shapes: Sequence[tuple[int, ...]]
    logs: Sequence[tuple[float, float] | None]  # range of the logarithm; None: standard normal values
    values: str = "counts"

    def parameters(self, dtype: torch.dtype, lead: tuple[int, ...] = (), seed: int = 0) -> list[Tensor]:
        rng = np.random.default_rng(seed)
        made = []
        for shape, log in zip(self.shapes, self.logs, strict=True):
            full = (*lead, *shape) if len(shape) == 2 else shape
            made.append(1.5 * rng.normal(size=full) if log is None else np.exp(rng.uniform(*log, full)))
        return [torch.tensor(p, dtype=dtype) for p in made]

    def x(self, dtype: torch.dtype, seed: int = 0) -> Tensor:
        """Return values of which a third is zero, with a row and a column of zeros."""
        rng = np.random.default_rng([seed, 1])
        drawn = {
            "counts": lambda: rng.negative_binomial(1, 0.1, (N, G)),
            "real": lambda: rng.normal(0, 2, (N, G)),
        }[self.values]()
        x = np.where(rng.random((N, G)) < 1 / 3, 0, drawn)
        x[2], x[:, 3] = 0, 0
        return torch.tensor(x, dtype=dtype)


def negbin(theta: tuple[int, ...]) -> Case:
    return Case(NegativeBinomial, Negbin, [(N, G), theta], [(-2, 4), (-2, 3)])


def inflated_negbin(theta: tuple[int, ...]) -> Case:
    return Case(
        lambda mean, t, gate: ZeroInflated(NegativeBinomial(mean, t), gate),
        lambda mean, t, gate: Inflated(Negbin(mean, t), gate),
        [(N, G), theta, (N, G)],
        [(-2, 4), (-2, 3), None],
    )


CASES = {
    "poisson": Case(Poisson, lambda mean: Frozen(stats.poisson(mean)), [(N, G)], [(-2, 4)]),
    "negbin-per-gene": negbin((G,)),
    "negbin-per-entry": negbin((N, G)),
    "negbin-per-cell": negbin((N, 1)),
    "negbin-scalar": negbin(()),
    "negbin-of-one": negbin((1,)),
    "inflated-poisson": Case(
        lambda mean, gate: ZeroInflated(Poisson(mean), gate),
        lambda mean, gate: Inflated(Frozen(stats.poisson(mean)), gate),
        [(N, G), (N, G)],
        [(-2, 4), None],
    ),
    "inflated-negbin-per-gene": inflated_negbin((G,)),
    "inflated-negbin-per-entry": inflated_negbin((N, G)),
    "inflated-negbin-per-cell": inflated_negbin((N, 1)),
    "inflated-negbin-scalar": inflated_negbin(()),
    "normal": Case(
        Normal, lambda mean, scale: Frozen(stats.norm(mean, scale)), [(N, G), (G,)], [None, (-1, 1)], "real"
    ),
}
COUNTS = [name for name, case in CASES.items() if case.values == "counts"]
F32, F64 = torch.float32, torch.float64


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def oracle_of(case: Case, parameters: list[Tensor]):
    return case.oracle(*(p.double().numpy() for p in parameters))


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(F32, 1e-4, 1e-4), (F64, 1e-10, 1e-12)], ids=["float32", "float64"]
)
def test_log_prob_is_scipys(case, dtype, rtol, atol):
    parameters, x = case.parameters(dtype), case.x(dtype)
    expected = oracle_of(case, parameters).logp(x.double().numpy())
    found = case.make(*parameters).log_prob(x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("dtype", "atol"), [(F32, 1e-5), (F64, 1e-10)], ids=["float32", "float64"])
def test_cdf_is_scipys_between_and_below_the_values_too(case, dtype, atol):
    parameters, x = case.parameters(dtype), case.x(dtype)
    distribution, oracle = case.make(*parameters), oracle_of(case, parameters)
    for shift in (0.0, 0.5, -0.5, 3.0):
        expected = oracle.cdf((x + shift).double().numpy())
        if case.values != "real":
            expected = np.where(x.numpy() + shift < 0, 0.0, expected)
        np.testing.assert_allclose(distribution.cdf(x + shift).double().numpy(), expected, rtol=0, atol=atol)


def test_the_inverse_of_the_cdf_is_scipys(case):
    parameters = case.parameters(F64)
    distribution = case.make(*parameters)
    u = torch.rand(N, G, dtype=F64, generator=torch.Generator().manual_seed(0))
    u[:, 0] = 1 - 1e-9
    found = distribution.icdf(u)
    if case.values == "real":
        np.testing.assert_allclose(distribution.cdf(found).numpy(), u.numpy(), rtol=1e-6)
        return
    oracle = oracle_of(case, parameters)
    assert (oracle.cdf(found.numpy()) >= u.numpy() - 1e-12).all()
    before = np.where(found.numpy() > 0, oracle.cdf(found.numpy() - 1), -1)
    assert (before < u.numpy()).all()


def test_the_inverse_finds_large_counts():
    mean, theta, u = (torch.tensor(v, dtype=F64) for v in ([1e5, 3000.0, 0.01], [0.3, 1e6, 1.0], [0.99, 0.5, 0.9]))
    expected = stats.nbinom(theta.numpy(), (theta / (theta + mean)).numpy()).ppf(u.numpy())
    np.testing.assert_array_equal(NegativeBinomial(mean, theta).icdf(u).numpy(), expected)


def test_to_carry_a_value_to_where_it_is_changes_nothing(case):
    distribution = case.make(*case.parameters(F32))
    torch.manual_seed(0)
    x = distribution.sample()
    torch.testing.assert_close(distribution.quantile_map(x, distribution), x)


def test_where_ranks_cannot_be_told_apart_a_count_is_carried_by_the_ratio_of_the_means():
    x, poisson = torch.tensor([1000.0, 500.0]), Poisson(torch.tensor([0.01, 2.0]))
    torch.testing.assert_close(poisson.quantile_map(x, poisson), x)
    torch.testing.assert_close(
        poisson.quantile_map(x, Poisson(torch.tensor([0.02, 1.0]))), torch.tensor([2000.0, 250.0])
    )


def test_values_are_carried_to_draws_from_the_target_in_the_order_they_had(case):
    source, target = (case.make(*case.parameters(F64, seed=seed)) for seed in (0, 1))
    torch.manual_seed(0)
    x = source.sample((4000,))
    moved = source.quantile_map(x, target)
    error = (target.variance / 4000).sqrt()
    assert ((moved.mean(0) - target.mean).abs() < 5 * error + 1e-9).all()
    order = x.argsort(0)
    before, after = x.gather(0, order), moved.gather(0, order)
    rises = before[1:] > before[:-1]
    assert (after[1:] >= after[:-1])[rises].all()


@pytest.mark.parametrize("name", COUNTS)
def test_probabilities_sum_to_one_and_give_mean_and_variance(name):
    case = CASES[name]
    case = Case(case.make, case.oracle, case.shapes, [log and (log[0], min(log[1], 2.0)) for log in case.logs])
    distribution = case.make(*case.parameters(F64))
    x = torch.arange(4000.0, dtype=F64).view(-1, 1, 1)
    p = distribution.log_prob(x.expand(-1, N, G)).exp()
    mean = (p * x).sum(0)
    np.testing.assert_allclose(p.sum(0).numpy(), 1.0, atol=1e-8)
    np.testing.assert_allclose(distribution.mean.expand(N, G).numpy(), mean.numpy(), rtol=1e-6)
    variance = (p * (x - mean).square()).sum(0)
    np.testing.assert_allclose(distribution.variance.expand(N, G).numpy(), variance.numpy(), rtol=1e-6)


def test_samples_have_the_mean_and_the_variance(case):
    distribution = case.make(*case.parameters(F64))
    torch.manual_seed(0)
    x = distribution.sample((20_000,))
    assert x.shape == (20_000, N, G)
    error = (distribution.variance / 20_000).sqrt()
    assert ((x.mean(0) - distribution.mean).abs() < 5 * error).all()
    kurtosis = ((x - x.mean(0)) ** 4).mean(0)
    spread = (kurtosis / 20_000).sqrt()
    assert ((x.var(0) - distribution.variance).abs() < 6 * spread + 1e-9).all()


@pytest.mark.parametrize("name", COUNTS)
def test_samples_of_counts_are_whole_and_have_the_probability_of_zero(name):
    case = CASES[name]
    distribution = case.make(*case.parameters(F32))
    torch.manual_seed(1)
    x = distribution.sample((20_000,))
    assert (x == x.round()).all()
    assert (x >= 0).all()
    p = distribution.log_prob_zero().exp().expand(N, G)
    assert (((x == 0).float().mean(0) - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt() + 1e-4).all()


def test_a_sample_has_the_shape_of_the_batch_and_no_gradient(case):
    parameters = [p.requires_grad_() for p in case.parameters(F32, (2,))]
    x = case.make(*parameters).sample()
    assert x.shape == (2, N, G)
    assert not x.requires_grad


def bound_and_gradients(case: Case, parameters: list[Tensor], rows: ExpressionRows) -> list[Tensor]:
    """Return log_prob_n, and the gradient of a weighted sum of it for every parameter."""
    leaves = [p.clone().requires_grad_() for p in parameters]
    log_p = case.make(*leaves).log_prob_n(rows)
    weight = torch.linspace(0.5, 2, log_p.numel(), dtype=log_p.dtype).view(log_p.shape)
    (log_p * weight).sum().backward()
    return [log_p.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)], ids=["n", "sn", "ssn"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F32, 1e-5), (F64, 1e-10)], ids=["float32", "float64"])
def test_sparse_rows_give_the_value_and_every_gradient_of_dense_rows(case, as_csr, dtype, tolerance, lead):
    parameters, x = case.parameters(dtype, lead), case.x(dtype)
    dense = bound_and_gradients(case, parameters, ExpressionRows.from_dense(x))
    stored = bound_and_gradients(case, parameters, as_csr(x))
    assert stored[0].shape == (*lead, N)
    for one, other in zip(dense, stored, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=tolerance, atol=tolerance * one.abs().max().item())


def test_sparse_rows_may_store_zeros(case):
    parameters, x = case.parameters(F64), case.x(F64)
    whole = ExpressionRows(x.flatten(), G, torch.arange(0, N * G + 1, G), torch.arange(G).repeat(N))
    stored, dense = (bound_and_gradients(case, parameters, rows) for rows in (whole, ExpressionRows.from_dense(x)))
    for one, other in zip(dense, stored, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-10, atol=1e-10)


def test_gradients_do_not_depend_on_how_the_parameters_lie_in_memory(case, as_csr):
    parameters, x = case.parameters(F64), case.x(F64)
    turned = [p.T.contiguous().T if p.ndim == 2 else p for p in parameters]
    plain, other = (bound_and_gradients(case, each, as_csr(x)) for each in (parameters, turned))
    for one, two in zip(plain, other, strict=True):
        np.testing.assert_allclose(two.numpy(), one.numpy(), rtol=1e-10, atol=1e-12)


def test_rows_without_a_stored_entry_have_the_probability_of_zeros(case, as_csr):
    distribution = case.make(*case.parameters(F64))
    found = distribution.log_prob_n(as_csr(torch.zeros(N, G, dtype=F64)))
    expected = distribution.log_prob(torch.zeros(N, G, dtype=F64)).sum(-1)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)


def test_one_gene_and_one_cell_are_no_special_case(as_csr):
    for n, g in ((1, 4), (4, 1), (1, 1)):
        for theta_shape in ((g,), (n, g), (n, 1), ()):
            case = Case(NegativeBinomial, Negbin, [(n, g), theta_shape], [(-1, 2), (-1, 2)])
            parameters = case.parameters(F64)
            x = torch.arange(n * g, dtype=F64).view(n, g)
            dense, stored = (
                bound_and_gradients(case, parameters, rows) for rows in (ExpressionRows.from_dense(x), as_csr(x))
            )
            for one, other in zip(dense, stored, strict=True):
                np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("stored", [True, False], ids=["sparse", "dense"])
def test_extreme_counts_and_dispersions_keep_value_and_gradient_finite(name, stored, as_csr):
    case = CASES[name]
    counts = torch.tensor([0.0, 1.0, 1e3, 1e5, 1e6]).repeat(N, 1)
    for mean in (1e-6, 1.0, 1e6):
        for theta in (1e-6, 1.0, 1e6):
            filled = [mean, theta] if "negbin" in name else [mean]
            parameters = [torch.full(s, v) for s, v in zip(case.shapes, filled, strict=False)]
            parameters += [torch.zeros(s) for s in case.shapes[len(filled) :]]
            rows = as_csr(counts) if stored else ExpressionRows.from_dense(counts)
            for tensor in bound_and_gradients(case, parameters, rows):
                assert torch.isfinite(tensor).all(), (mean, theta)


@pytest.mark.parametrize("x", [10.0, 1e3, 1e5, 1e6])
@pytest.mark.parametrize("theta", [0.1, 1.0, 10.0])
def test_float32_keeps_four_digits_of_the_log_probability_of_large_negative_binomial_counts(x, theta, as_csr):
    mean = torch.tensor([[0.7 * x]])
    expected = Negbin(float(mean), theta).logp(x)
    distribution = NegativeBinomial(mean, torch.tensor([theta]))
    np.testing.assert_allclose(distribution.log_prob(torch.tensor([[x]])).item(), expected, rtol=1e-4)
    np.testing.assert_allclose(distribution.log_prob_n(as_csr(torch.tensor([[x]]))).item(), expected, rtol=1e-4)


@pytest.mark.parametrize("inflated", [False, True])
@pytest.mark.parametrize("size", [1e3, 1e5, 1e7])
def test_float32_is_exact_to_rounding_for_large_poisson_counts(size, inflated, as_csr):
    rng = np.random.default_rng(0)
    mean = torch.tensor(size * rng.lognormal(0, 0.01, (N, G)), dtype=F32, requires_grad=True)
    x = torch.tensor(rng.poisson(mean.detach()), dtype=F32)
    gate = torch.full((N, G), -1.0)
    counts = ZeroInflated(Poisson(mean), gate) if inflated else Poisson(mean)
    oracle = Frozen(stats.poisson(mean.detach().double()))
    expected = (Inflated(oracle, gate.double().numpy()) if inflated else oracle).logp(x.double().numpy())
    found = counts.log_prob(x)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), mean, retain_graph=True)
    exact = x.double() / mean.detach().double() - 1
    np.testing.assert_allclose(gradient, exact, rtol=1e-6, atol=2e-7)
    rows = as_csr(torch.where(torch.arange(G) == 1, 0.0, x))
    with torch.no_grad():
        of_rows = counts.log_prob_n(rows)
    zero = (-mean.detach().double()) if not inflated else counts.log_prob_zero().detach().double()
    kept = np.where(np.arange(G) == 1, zero, expected).sum(1)
    np.testing.assert_allclose(of_rows, kept, rtol=1e-6)


def test_negative_binomial_becomes_poisson_as_theta_grows():
    mean, x = torch.tensor([[0.1, 1.0, 5.0, 30.0]], dtype=F64), torch.tensor([[0.0, 2.0, 3.0, 40.0]], dtype=F64)
    expected = Poisson(mean).log_prob(x)
    gaps = []
    for theta in (1e2, 1e4, 1e6, 1e8):
        limit = NegativeBinomial(mean, torch.tensor(theta, dtype=F64))
        gaps.append((limit.log_prob(x) - expected).abs().max().item())
    assert all(b < a / 50 for a, b in itertools.pairwise(gaps))
    np.testing.assert_allclose(limit.variance.numpy(), mean.numpy(), rtol=1e-6)
    assert gaps[-1] < 1e-5


@pytest.mark.parametrize("name", ["inflated-poisson", "inflated-negbin-per-gene", "inflated-negbin-per-entry"])
@pytest.mark.parametrize("stored", [True, False], ids=["sparse", "dense"])
def test_a_closed_gate_leaves_the_base_with_finite_gradients(name, stored, as_csr):
    case, base = CASES[name], CASES[name.removeprefix("inflated-")]
    *parameters, gate = case.parameters(F64)
    rows = as_csr(case.x(F64)) if stored else ExpressionRows.from_dense(case.x(F64))
    closed = bound_and_gradients(case, [*parameters, torch.full_like(gate, -torch.inf)], rows)
    plain = bound_and_gradients(base, parameters, rows)
    for one, other in zip(plain, closed, strict=False):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-10, atol=1e-12)
    assert torch.isfinite(closed[-1]).all()


def test_an_open_gate_leaves_zeros_only():
    inflated = ZeroInflated(Poisson(torch.full((3, 2), 5.0)), torch.full((3, 2), 60.0))
    assert inflated.sample().sum() == 0
    np.testing.assert_allclose(inflated.log_prob(torch.zeros(3, 2)).numpy(), 0, atol=1e-6)
    np.testing.assert_allclose(inflated.mean.numpy(), 0, atol=1e-6)


@pytest.mark.parametrize("theta_shape", [(G,), (1,), (N, G), (N, 1), ()], ids=str)
@pytest.mark.parametrize("lead", [(), (2,)], ids=["n", "sn"])
def test_gradcheck_of_the_sparse_negative_binomial(theta_shape, lead, as_csr):
    case = negbin(theta_shape)
    mean, theta = (p.requires_grad_() for p in case.parameters(F64, lead))
    rows = as_csr(case.x(F64))
    assert torch.autograd.gradcheck(lambda m, t: _SparseLogProb.apply(m, t, rows), (mean, theta))


@pytest.mark.parametrize("theta_shape", [(G,), (N, G), (N, 1), ()], ids=str)
def test_gradcheck_of_the_log_coefficient(theta_shape):
    case = negbin(theta_shape)
    theta = case.parameters(F64)[1].requires_grad_()
    assert torch.autograd.gradcheck(lambda t: LogCoefficient.apply(case.x(F64), t), (theta,))


@pytest.mark.parametrize("lead", [(), (2,)], ids=["n", "sn"])
def test_gradcheck_of_picking_entries(lead, as_csr):
    dense = CASES["poisson"].parameters(F64, lead)[0].requires_grad_()
    flat_e = as_csr(CASES["poisson"].x(F64)).flat_e
    assert torch.autograd.gradcheck(lambda d: _PickEntries.apply(d, flat_e), (dense,))
    picked = _PickEntries.apply(dense, flat_e)
    assert torch.equal(picked, dense.flatten(-2)[..., flat_e])


def digamma_rise_by_scipy(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """ψ(x+θ) − ψ(θ): a sum of 1/(θ+i) for small counts, where the difference would cancel."""
    rise = np.zeros(np.broadcast_shapes(x.shape, theta.shape))
    for place, (count, t) in enumerate(np.broadcast(x, theta)):
        by_sum = np.sum(1 / (t + np.arange(count))) if count <= 1000 else None
        rise.flat[place] = special.digamma(count + t) - special.digamma(t) if by_sum is None else by_sum
    return rise


@pytest.mark.parametrize(("dtype", "rtol"), [(F32, 2e-6), (F64, 1e-10)], ids=["float32", "float64"])
def test_digamma_rise_is_scipys_over_twelve_decades(dtype, rtol):
    x = torch.tensor([1, 2, 3, 10, 100, 1000, 1e4, 1e6], dtype=dtype)
    theta = torch.logspace(-6, 6, 61, dtype=dtype).unsqueeze(-1)
    expected = digamma_rise_by_scipy(x.double().numpy(), theta.double().numpy())
    # the oracle's own difference cancels where the count is large but theta far larger
    cancels = (x.double().numpy() > 1000) & (theta.double().numpy() > 1e3 * x.double().numpy())
    found = digamma_difference(x, theta).double().numpy()
    np.testing.assert_allclose(found[~cancels], expected[~cancels], rtol=rtol)
    assert (digamma_difference(torch.zeros_like(x), theta) == 0).all()


@given(st.integers(1, 60), st.floats(1e-6, 1e6))
def test_digamma_rise_is_the_sum_of_reciprocals(count, theta):
    found = digamma_difference(torch.tensor(float(count), dtype=F64), torch.tensor(theta, dtype=F64)).item()
    assert found == pytest.approx(sum(1 / (theta + i) for i in range(count)), rel=1e-10)


def test_expand_keeps_the_distribution_and_enlarges_the_batch(case, as_csr):
    parameters, x = case.parameters(F64), case.x(F64)
    distribution = case.make(*parameters)
    expanded = distribution.expand((3, N, G))
    assert type(expanded) is type(distribution)
    assert expanded.batch_shape == (3, N, G)
    for found, expected in (
        (expanded.log_prob(x), distribution.log_prob(x)),
        (expanded.log_prob_n(as_csr(x)), distribution.log_prob_n(as_csr(x))),
        (expanded.mean, distribution.mean),
        (expanded.variance, distribution.variance),
    ):
        np.testing.assert_allclose(found.numpy(), expected.expand(found.shape).numpy(), rtol=1e-10)
    assert expanded.sample((2,)).shape == (2, 3, N, G)


def test_independent_sums_over_genes(case):
    distribution, x = case.make(*case.parameters(F64)), case.x(F64)
    cells = torch.distributions.Independent(distribution, 1)
    assert (cells.batch_shape, cells.event_shape) == ((N,), (G,))
    np.testing.assert_allclose(cells.log_prob(x).numpy(), distribution.log_prob(x).sum(-1).numpy(), rtol=1e-12)
    assert cells.sample((2,)).shape == (2, N, G)
    assert cells.expand((4, N)).log_prob(x).shape == (4, N)
    assert cells.support.check(x).all()


def test_samples_lie_in_the_support(case):
    distribution = case.make(*case.parameters(F64))
    assert distribution.support.check(distribution.sample((100,))).all()


@pytest.mark.parametrize("value", [-1.0, 0.5, torch.nan])
def test_values_outside_the_support_are_errors(case, value):
    distribution = case.make(*case.parameters(F64))
    x = torch.full((N, G), value, dtype=F64)
    if distribution.support.check(x).all():
        assert torch.isfinite(distribution.log_prob(x)).all()
        return
    with pytest.raises(ValueError, match="support"):
        distribution.log_prob(x)


WRONG_PARAMETERS = {
    "mean": lambda: NegativeBinomial(torch.tensor(-1.0), torch.tensor(1.0)),
    "inverse_dispersion": lambda: NegativeBinomial(torch.tensor(1.0), torch.tensor(0.0)),
    "mean of Poisson": lambda: Poisson(torch.tensor(-1.0)),
    "scale": lambda: Normal(torch.tensor(0.0), torch.tensor(0.0)),
    "mean of Normal": lambda: Normal(torch.tensor(torch.nan), torch.tensor(1.0)),
    "gate_logits": lambda: ZeroInflated(Poisson(torch.tensor(1.0)), torch.tensor(torch.nan)),
}


@pytest.mark.parametrize("name", WRONG_PARAMETERS)
def test_an_invalid_parameter_is_an_error_that_names_it(name):
    with pytest.raises(ValueError, match=f"parameter {name.split()[0]} "):
        WRONG_PARAMETERS[name]()


def test_validation_can_be_turned_off_and_stays_off():
    negative = NegativeBinomial(torch.tensor(-1.0), torch.tensor(1.0), validate_args=False)
    assert not negative.expand((2,))._validate_args
    assert NegativeBinomial(torch.tensor(1.0), torch.tensor(1.0)).expand((2,))._validate_args


def test_repr_names_the_shapes():
    assert repr(NegativeBinomial(torch.ones(2, 3), torch.ones(3))) == "NegativeBinomial((2, 3), (3,))"


@pytest.mark.parametrize("name", COUNTS)
def test_samples_within_a_limit_follow_the_truncated_distribution(name):
    case = CASES[name]
    parameters = case.parameters(F64)
    p, limit = case.make(*parameters), torch.tensor([0.0, 1.0, 3.0, 8.0, 40.0], dtype=F64)
    torch.manual_seed(0)
    x = p.within(p.sample((4000,)).to(F64), limit)
    assert (x <= limit).all()
    assert (x == x.round()).all()
    oracle, values = oracle_of(case, parameters), np.arange(41).reshape(-1, 1, 1)
    with np.errstate(divide="ignore"):
        chance = np.where(values <= limit.numpy(), np.exp(oracle.logp(values)), 0)
    chance /= chance.sum(0)
    mean = (values * chance).sum(0)
    deviation = np.sqrt(((values - mean) ** 2 * chance).sum(0) / 4000)
    assert (np.abs(x.mean(0).numpy() - mean) <= 5 * deviation + 1e-9).all()


def test_samples_within_the_limit_stay(case):
    x = case.make(*case.parameters(F32)).sample()
    assert case.make(*case.parameters(F32)).within(x, torch.tensor(torch.inf)) is x
