"""The compiled log-probability of counts against its plain form in float64: values and all gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from genevae.cells import ExpressionRows
from genevae.distributions import NegativeBinomial, Poisson, ZeroInflated, fused
from genevae.distributions.deferred import Gathered, SoftmaxMean
from genevae.distributions.fused import softmax_log_prob_n
from genevae.kernels.compile import load, load_triton

N, G, C = 19, 67, 3
TOLERANCE = 1e-5
THETAS = {"gene": (G,), "category": (C, G), "one-category": (1, G), "entry": None}
KINDS = ["poisson", *(f"{base}-{theta}" for base in ("nb", "zinb") for theta in THETAS)]
LEAD = {"one draw": (), "one particle": (1,), "particles": (3,)}


def csr(x: np.ndarray) -> ExpressionRows:
    """Store what is not zero, and some zeros."""
    cell, gene = np.nonzero((x > 0) | (np.arange(x.size).reshape(x.shape) % 11 == 0))
    indptr = np.searchsorted(cell, np.arange(len(x) + 1))
    values = torch.tensor(x[cell, gene], dtype=torch.float32)
    return ExpressionRows(values, x.shape[1], torch.tensor(indptr), torch.tensor(gene))


class Example:
    """Parameters of a softmax, and counts: usual ones, or of all sizes with a θ of all sizes."""

    def __init__(self, kind: str, lead: tuple[int, ...], extreme: bool, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.kind, (self.base, _, self.theta) = kind, kind.partition("-")
        shape = (*lead, N, G)
        if extreme:
            x = np.exp(rng.uniform(0, np.log(1e6), (N, G))).round() * (rng.random((N, G)) < 0.4)
            x[0, :3] = 1e6, 1, 0
            size, log_theta = np.exp(rng.uniform(0, np.log(1e8), (N, 1))), rng.uniform(-13.8, 13.8, 3 * N * G)
        else:
            x = rng.negative_binomial(1, 0.3, (N, G)) * (rng.random((N, G)) < 0.4)
            x[:, 5] += 40  # beyond what is computed as a product
            x[1, 7] = 2.5  # expected counts need not be whole
            size, log_theta = rng.lognormal(5, 1, (N, 1)), rng.normal(0, 1.5, 3 * N * G)
        x[2] = 0
        self.rows, self.code_n = csr(x.astype(np.float32)), torch.tensor(rng.integers(0, 3, N))
        theta_shape = THETAS.get(self.theta, shape) or shape
        arrays = {
            "logits": rng.normal(0, 3, shape),
            "bias": rng.normal(0, 1, G),
            "size": size,
            "theta": np.exp(log_theta[: int(np.prod(theta_shape))].reshape(theta_shape)),
            "gate": rng.normal(-1, 3, shape),
        }
        unused = {"poisson": ("theta", "gate"), "nb": ("gate",), "zinb": ()}[self.base]
        self.parameters = {
            name: torch.tensor(array, dtype=torch.float32) for name, array in arrays.items() if name not in unused
        }
        self.weight = torch.tensor(rng.exponential(size=(*lead, N)), dtype=torch.float32)

    def log_prob_n(self, dtype: torch.dtype, given: dict[str, Tensor]) -> Tensor:
        rows = self.rows.to("cpu", dtype)
        mean = SoftmaxMean(given["logits"], given["bias"], given["size"])
        if self.base == "poisson":
            return Poisson(mean, validate_args=False).log_prob_n(rows)
        codes = {"category": self.code_n, "one-category": torch.zeros_like(self.code_n)}
        theta = Gathered(given["theta"], codes[self.theta]) if self.theta in codes else given["theta"]
        nb = NegativeBinomial(mean, theta, validate_args=False)
        if self.base == "nb":
            return nb.log_prob_n(rows)
        return ZeroInflated(nb, given["gate"], validate_args=False).log_prob_n(rows)

    def values_and_gradients(self, dtype: torch.dtype, weight: Tensor) -> dict[str, Tensor]:
        given = {name: p.to(dtype, copy=True).requires_grad_() for name, p in self.parameters.items()}
        value = self.log_prob_n(dtype, given)
        (value * weight.to(dtype)).sum().backward()
        return {"value": value.detach(), **{name: p.grad for name, p in given.items()}}


def largest_error(found: Tensor, expected: Tensor, scale: Tensor) -> float:
    return float(((found.double() - expected).abs() / scale).max())


def check(example: Example, weight: Tensor) -> None:
    """Compare values and all gradients in float32 with those of the plain form in float64."""
    found = example.values_and_gradients(torch.float32, weight)
    expected = example.values_and_gradients(torch.float64, weight)
    assert found.keys() == expected.keys()
    for name, oracle in expected.items():
        scale = oracle.abs() if name in ("value", "size") else oracle.abs().amax(-1, keepdim=True)
        if (name, example.kind) == ("logits", "poisson"):  # without counts it vanishes: Σ_g μ_g is the size
            scale = scale.maximum((weight * example.parameters["size"][:, 0]).abs().unsqueeze(-1) / 10)
        assert largest_error(found[name], oracle, scale.clamp(min=1e-30)) < TOLERANCE, name


@pytest.mark.parametrize("extreme", [False, True], ids=["usual", "extreme"])
@pytest.mark.parametrize("lead", LEAD.values(), ids=LEAD)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_plain_form(kind, lead, extreme):
    example = Example(kind, lead, extreme)
    for weight in (example.weight, torch.full_like(example.weight, -1 / example.weight.numel())):
        check(example, weight)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_threads_nor_on_how_they_are_started(kind, monkeypatch):
    example = Example(kind, (2,), extreme=False)
    before = torch.get_num_threads()
    try:
        results = []
        for n_threads, has_openmp in ((1, True), (2, True), (5, True), (3, False)):
            torch.set_num_threads(n_threads)
            if not has_openmp:
                monkeypatch.setattr("genevae.kernels.threads._openmp", lambda: None)
            results.append(example.values_and_gradients(torch.float32, example.weight))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[name], one) for name, one in results[0].items())


def test_nothing_is_compiled_for_other_parameters_or_without_numba(monkeypatch):
    example = Example("nb-gene", (), extreme=False)
    given = dict(example.parameters)
    compiled_n = example.log_prob_n(torch.float32, given)
    mean = SoftmaxMean(given["logits"], given["bias"], given["size"])
    everywhere = torch.ones(N, G, dtype=torch.bool)
    assert softmax_log_prob_n(example.rows, None, mean, given["theta"]) is not None
    assert softmax_log_prob_n(example.rows, everywhere, mean, given["theta"]) is None
    assert softmax_log_prob_n(example.rows, None, mean.value, given["theta"]) is None
    assert softmax_log_prob_n(example.rows, None, mean, given["theta"][:1]) is None
    differentiated = ExpressionRows.from_dense(example.rows.dense().requires_grad_())
    assert softmax_log_prob_n(differentiated, None, mean, given["theta"]) is None
    monkeypatch.setattr(fused, "fits", lambda *_: False)
    plain_n = example.log_prob_n(torch.float32, given)
    assert not torch.equal(plain_n, compiled_n)
    torch.testing.assert_close(plain_n, compiled_n, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("kind", ["poisson", "nb-gene", "zinb-entry"])
def test_dense_rows_have_the_bits_of_sparse_ones(kind, extreme):
    example = Example(kind, (2,), extreme=extreme)
    sparse = example.values_and_gradients(torch.float32, example.weight)
    example.rows = ExpressionRows.from_dense(example.rows.dense())
    dense = example.values_and_gradients(torch.float32, example.weight)
    assert all(torch.equal(dense[name], one) for name, one in sparse.items())


@pytest.mark.parametrize(
    ("x", "mean", "theta"),
    [(1e6, 1e3, 1e-3), (1e5, 3e4, 0.7), (1e4, 1e4, 0.3), (3e3, 1e3, 0.1), (9, 12, 3e4), (2.5, 3, 1e5)],
)
def test_one_count_is_exact_whatever_its_size(x, mean, theta):
    found = {}
    for dtype in (torch.float32, torch.float64):
        rows = csr(np.array([[x, 0]], np.float32)).to("cpu", dtype)
        theta_g = torch.tensor([theta, 1e-6], dtype=torch.float32).to(dtype).requires_grad_()
        means = SoftmaxMean(
            *(torch.zeros(shape, dtype=dtype) for shape in ((1, 2), 2)), torch.full((1, 1), 2 * mean, dtype=dtype)
        )
        value = NegativeBinomial(means, theta_g, validate_args=False).log_prob_n(rows)
        value.sum().backward()
        found[dtype] = float(value.detach()), float(theta_g.grad[0])
    (value, gradient), (value64, gradient64) = found[torch.float32], found[torch.float64]
    assert value == pytest.approx(value64, rel=1e-6)
    assert gradient == pytest.approx(gradient64, rel=1e-4)


def test_parameters_that_are_no_numbers_and_rows_that_repeat_genes_come_to_an_end():
    means = SoftmaxMean(torch.zeros(1, 2), torch.zeros(2), torch.ones(1, 1))
    rows = csr(np.array([[2.5, 0]], np.float32))
    for theta in (-np.inf, -1e9, np.nan, 0.0):
        found = NegativeBinomial(means, torch.tensor([theta, 1.0]), validate_args=False).log_prob_n(rows)
        assert found.isnan().all(), theta
    many = ExpressionRows(torch.ones(500), 2, torch.tensor([0, 500]), torch.arange(500) % 2)
    assert NegativeBinomial(means, torch.ones(2), validate_args=False).log_prob_n(many).isfinite().all()
    missing = ExpressionRows(torch.tensor([torch.nan]), 2, torch.tensor([0, 1]), torch.tensor([0]))
    assert NegativeBinomial(means, torch.ones(2), validate_args=False).log_prob_n(missing).isnan().all()


def test_a_graph_can_be_differentiated_twice():
    example = Example("zinb-entry", (2,), extreme=False)
    given = {name: p.requires_grad_() for name, p in example.parameters.items()}
    total = example.log_prob_n(torch.float32, given).mean()
    first = torch.autograd.grad(total, list(given.values()), retain_graph=True)
    again = torch.autograd.grad(total, list(given.values()))
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one, other)


def test_a_mean_that_is_made_late_has_a_gradient():
    example = Example("nb-gene", (), extreme=False)
    logits, bias_g, size_n1 = (example.parameters[name] for name in ("logits", "bias", "size"))
    mean = SoftmaxMean(logits.requires_grad_(), bias_g, size_n1)
    with torch.no_grad():
        assert mean.value.requires_grad
    torch.testing.assert_close(mean.value.sum(-1, keepdim=True).detach(), size_n1)


@pytest.mark.parametrize("name", ["logits", "bias", "size", "theta", "gate"])
def test_what_is_not_a_number_gives_no_number(name):
    example = Example("zinb-entry", (), extreme=False)
    broken = example.parameters[name]
    broken[(3,) * broken.ndim if name != "size" else 3] = torch.nan
    value_n = example.log_prob_n(torch.float32, example.parameters)
    assert value_n[3].isnan()
    assert value_n.isfinite().any() == (name != "bias")


# The same in Triton, in its interpreter on the CPU.


@pytest.fixture
def triton(monkeypatch):
    """Let tensors on the CPU pass for tensors on a GPU; NumPy, which interprets, warns of numbers that are not used."""
    pytest.importorskip("triton", reason="Triton is not installed: likelihoods for GPUs are not checked")
    monkeypatch.setattr(fused, "fits", lambda *_: False)
    monkeypatch.setattr(fused, "_on_gpu", lambda *tensors: all(x.dtype is torch.float32 for x in tensors))
    fused._works_on.cache_clear()
    with np.errstate(all="ignore"):
        yield load_triton("triton_counts")
    fused._works_on.cache_clear()


@pytest.mark.parametrize("dense", [False, True], ids=["CSR", "dense"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("triton")
def test_triton_gives_the_values_and_gradients_of_the_plain_form(kind, dense):
    example = Example(kind, (), extreme=True)
    if dense:
        example.rows = ExpressionRows.from_dense(example.rows.dense())
    check(example, example.weight)


@pytest.mark.parametrize("dense", [False, True], ids=["CSR", "dense"])
def test_triton_takes_rows_longer_than_a_block(dense, triton, monkeypatch):
    monkeypatch.setattr(triton, "GENES", 64)
    monkeypatch.setattr(triton, "ENTRIES", 16)
    example = Example("zinb-category", (2,), extreme=False)
    if dense:
        example.rows = ExpressionRows.from_dense(example.rows.dense())
    check(example, example.weight)


def test_triton_is_not_used_on_a_device_where_it_fails_or_is_wrong(triton, monkeypatch, caplog):
    device, right = torch.device("cpu"), triton.log_prob
    assert fused._works_on(device)

    def wrong(*arguments):
        logp_m, *gradients = right(*arguments)
        return logp_m + 1, *gradients

    def failing(*_):
        raise RuntimeError("no such instruction")

    for broken, said in ((wrong, "wrong by 1"), (failing, "no such instruction")):
        fused._works_on.cache_clear()
        monkeypatch.setattr(triton, "log_prob", broken)
        assert not fused._works_on(device)
        assert said in caplog.text


def test_loops_take_no_other_types_and_indices_of_either_width():
    example = Example("nb-gene", (), extreme=False)
    rows = example.rows
    narrow = ExpressionRows(rows.values, rows.n_genes, rows.indptr_n.int(), rows.gene_e.int())
    expected = example.values_and_gradients(torch.float32, example.weight)
    example.rows = narrow
    found = example.values_and_gradients(torch.float32, example.weight)
    assert all(torch.equal(found[name], one) for name, one in expected.items())

    threads, csr = load("threads"), load("csr")
    good = (np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((3, 4), np.float32))
    out = np.ones((1, 4), np.float32)
    threads.run(csr.product, *good, out)
    assert not out.any()
    for number, bad in ((0, good[0].astype(np.int32)), (2, np.zeros(0)), (3, good[3].T)):
        with pytest.raises(TypeError, match="a loop was given"):
            threads.run(csr.product, *good[:number], bad, *good[number + 1 :], out)


def test_a_loop_that_has_no_room_says_so():
    def takes_no_part(at):
        return

    threads = load("threads")
    loop = threads.in_parts()(takes_no_part)
    with pytest.raises(MemoryError, match="takes_no_part"):
        threads.run(loop)
