"""Random labels: what is called where nothing differs, and where something does."""

from __future__ import annotations

import numpy as np
import pytest

from genevae.evaluation.response.null import null_calls, null_scores


def cells(n: int, seed: int, times: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mean_g = np.random.default_rng(0).gamma(0.5, 1.0, 200)
    mean_g[:20] *= times
    return np.log1p(rng.poisson(rng.gamma(2.0, mean_g / 2.0, (n, 200))).astype(float))


@pytest.mark.parametrize("n", [40, 400])
def test_at_most_the_nominal_share_is_called_with_random_labels(n):
    calls = [null_calls(cells(n, 2 * s), cells(n, 2 * s + 1)) for s in range(1, 8)]
    assert np.mean(calls) <= 0.05


def test_genes_that_change_are_called():
    assert null_calls(cells(400, 1), cells(400, 2, times=4.0)) > 0.05


def test_the_t_test_stands_beside_it_and_few_cells_have_no_test():
    ours, tested = null_scores(cells(200, 3), seed=0)
    assert (ours.who, tested.who) == ("effect", "t-test")
    assert ours.value <= tested.value + 0.05
    assert tested.value == pytest.approx(0.05, abs=0.05)
    assert not list(null_scores(cells(30, 3), seed=0))
