"""Draws from a posterior and its divergence: compiled as in the plain form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from genevae.models.draws import draw_with_kl
from genevae.models.posterior import LIMIT, HeadNormal
from genevae.models.prior import StandardNormal

N, K = 9, 4


@pytest.mark.parametrize("shape", [(1, N, K), (3, N, K), (2, 1, K)])
def test_compiled_draws_and_divergences_have_the_values_and_gradients_of_the_plain_form(shape):
    results = []
    for dtype in (torch.float32, torch.float64):
        rng = np.random.default_rng(0)
        both_nk = torch.tensor(rng.normal(0, 2, (N, 2 * K)), dtype=dtype)
        both_nk[0, K], both_nk[1, K + 1], both_nk[2, 2 * K - 1] = LIMIT + 3, -LIMIT - 1, LIMIT
        both_nk.requires_grad_()
        p = StandardNormal(torch.zeros(N, K, dtype=dtype), torch.ones(N, K, dtype=dtype))
        z_snk, kl_n = draw_with_kl(HeadNormal(both_nk), p, torch.tensor(rng.normal(size=shape), dtype=dtype))
        assert (type(z_snk.grad_fn).__name__ == "_DrawsBackward") == (dtype == torch.float32)
        weights = torch.tensor(rng.normal(size=z_snk.shape), dtype=dtype)
        ((weights * z_snk).sum() + (kl_n * torch.linspace(-1, 2, N, dtype=dtype)).sum()).backward()
        results.append([z_snk.detach(), kl_n.detach(), both_nk.grad])
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled.double(), plain, rtol=1e-5, atol=1e-6)


def test_a_head_is_a_normal_distribution():
    both_nk = torch.randn(N, 2 * K, requires_grad=True)
    with torch.no_grad():
        q = HeadNormal(both_nk)
        assert q.mean.requires_grad
    plain = Normal(both_nk[:, :K], (0.5 * both_nk[:, K:]).exp())
    z = torch.randn(5, N, K)
    torch.testing.assert_close(q.log_prob(z), plain.log_prob(z))
    torch.testing.assert_close(q.expand((2, N, K)).variance, plain.variance.expand(2, N, K))
    assert q.rsample((3,)).shape == (3, N, K)


def test_what_is_not_a_number_stays_so():
    both_nk = torch.zeros(N, 2 * K)
    both_nk[1, 0] = both_nk[2, K + 1] = torch.nan
    z_snk, kl_n = draw_with_kl(
        HeadNormal(both_nk), StandardNormal(torch.zeros(N, K), torch.ones(N, K)), torch.ones(1, N, K)
    )
    assert kl_n.isnan().nonzero().flatten().tolist() == [1, 2]
    assert z_snk[0].isnan().nonzero().tolist() == [[1, 0], [2, 1]]
