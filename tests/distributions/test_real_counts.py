"""The two-part negative binomial on counts as they come, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse, stats

from genevae.data.loader import to_rows
from genevae.distributions import NegativeBinomial
from genevae.io.formats import open_source


@pytest.fixture(scope="module")
def generated() -> sparse.csr_matrix:
    """Draw counts as sparse and as skewed as those of peripheral blood, a few cells deep and one empty."""
    rng = np.random.default_rng(0)
    share_g = rng.dirichlet(np.full(1500, 0.05))
    size_n1 = rng.lognormal(7, 0.6, (120, 1))
    size_n1[:3] *= 50
    x = rng.negative_binomial(2.0, 2.0 / (2.0 + size_n1 * share_g)).astype(np.float32)
    x[5] = 0
    return sparse.csr_matrix(x)


@pytest.fixture(scope="module")
def kang(shared_data) -> sparse.csr_matrix:
    source = open_source(shared_data("kang_merged.h5ad"))
    return sparse.csr_matrix(source.read(np.arange(0, len(source), len(source) // 120)))


@pytest.mark.parametrize("data", ["generated", "kang"])
@pytest.mark.parametrize("theta_of", ["gene", "entry"])
def test_every_entry_of_real_counts_has_scipys_log_probability(data, theta_of, request):
    x = request.getfixturevalue(data)
    rows = to_rows(x)
    rng = np.random.default_rng(1)
    dense = x.toarray()
    share_g = (dense.sum(0) + 0.5) / (dense.sum() + 0.5 * dense.shape[1])
    mean = (dense.sum(1, keepdims=True) + 1) * share_g * rng.lognormal(0, 0.5, dense.shape)
    theta = np.exp(rng.uniform(-3, 5, dense.shape if theta_of == "entry" else dense.shape[1]))
    mean, theta = mean.astype(np.float32), theta.astype(np.float32)
    expected = stats.nbinom.logpmf(dense, theta.astype(float), 1 / (1 + mean.astype(float) / theta))
    distribution = NegativeBinomial(torch.from_numpy(mean), torch.from_numpy(theta))

    found = distribution.log_prob(rows.dense()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    at_stored = distribution.log_prob_zero().flatten()[rows.flat_e] + distribution.at(rows).log_ratio(rows.values)
    np.testing.assert_allclose(at_stored.numpy(), expected.ravel()[rows.flat_e.numpy()], rtol=1e-4, atol=1e-4)
    found_n = distribution.log_prob_n(rows).numpy()
    np.testing.assert_allclose(found_n, expected.sum(1), rtol=1e-5)
    assert (rows.n_cells, rows.n_genes) == expected.shape
