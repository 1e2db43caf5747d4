"""Tests between replicates: uniform under the null, and SciPy's t-test where nothing is moderated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from genevae.responses import replicates
from genevae.responses.replicates import paired_test, unpaired_test


def variances(rng: np.random.Generator, n_genes: int, alike: bool) -> np.ndarray:
    return np.ones(n_genes) if alike else 4 / rng.chisquare(4, n_genes)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_p_values_are_uniform_under_the_null(n, alike):
    rng = np.random.default_rng(n)
    sd_g = np.sqrt(variances(rng, 2000, alike))
    one_rg, other_rg = rng.normal(0, sd_g, (2, n, 2000))
    for test in (paired_test(one_rg), unpaired_test(one_rg, other_rg)):
        assert test is not None
        assert stats.kstest(test.p_value_g, "uniform").pvalue > 0.01


def test_moderation_finds_more_with_few_replicates():
    rng = np.random.default_rng(0)
    shift_rg = rng.normal(0, np.sqrt(variances(rng, 2000, False)), (3, 2000))
    shift_rg[:, :200] += 4
    plain_g = stats.ttest_1samp(shift_rg, 0).pvalue
    test = paired_test(shift_rg)
    assert (test.fdr_g[:200] < 0.05).sum() > (stats.false_discovery_control(plain_g)[:200] < 0.05).sum()
    assert (test.fdr_g[200:] < 0.05).sum() <= 0.1 * max((test.fdr_g < 0.05).sum(), 1)


def test_without_moderation_it_is_the_t_test(monkeypatch):
    monkeypatch.setattr(replicates, "_prior", lambda variance_g, df: (1.0, 1e-12))
    rng = np.random.default_rng(0)
    before_rg, after_rg = rng.normal(size=(5, 50)), rng.normal(0.5, 1, (4, 50))
    np.testing.assert_allclose(paired_test(before_rg).p_value_g, stats.ttest_1samp(before_rg, 0).pvalue, rtol=1e-6)
    test = unpaired_test(before_rg, after_rg)
    np.testing.assert_allclose(test.p_value_g, stats.ttest_ind(before_rg, after_rg).pvalue, rtol=1e-6)
    assert test.n_replicates == 9


def test_false_discovery_rates_are_those_of_benjamini_and_hochberg():
    test = paired_test(np.random.default_rng(0).normal(0.5, 1, (4, 100)))
    np.testing.assert_array_equal(test.fdr_g, stats.false_discovery_control(test.p_value_g))


def test_fewer_than_two_replicates_are_no_test():
    x_rg = np.zeros((3, 5))
    assert paired_test(x_rg[:1]) is None
    assert unpaired_test(x_rg[:1], x_rg) is None
    assert unpaired_test(x_rg, x_rg[:1]) is None


@pytest.mark.parametrize("n_varied", [0, 1, 2, 50])
@pytest.mark.parametrize("value", [0.0, 0.1, 3.7])
def test_genes_that_are_constant_have_p_value_one(n_varied, value):
    rng = np.random.default_rng(0)
    before_rg, after_rg = np.full((2, 3, 60), value)
    before_rg[:, :n_varied] += rng.normal(size=(3, n_varied))
    for test in (unpaired_test(before_rg, after_rg), paired_test(after_rg - before_rg)):
        assert (test.p_value_g[n_varied:] == 1).all()
        assert ((test.p_value_g >= 0) & (test.p_value_g <= 1)).all()


def test_a_gene_that_always_shifts_alike_has_a_small_p_value():
    rng = np.random.default_rng(0)
    shift_rg = rng.normal(size=(4, 60))
    shift_rg[:, 0] = 9.0
    assert paired_test(shift_rg).p_value_g[0] < 1e-3
