"""What can be read from points, and how labels mix."""

from __future__ import annotations

import numpy as np
import pytest

from genevae.metrics.leakage import chance, local_mixing, readable, readable_n, readable_number

RNG = np.random.default_rng(0)
LABELS = np.repeat(["a", "b", "c"], [60, 50, 40])


@pytest.mark.parametrize("reader", ["logistic", "neighbours"])
def test_noise_tells_no_more_than_chance_and_the_label_itself_tells_all(reader):
    noise = RNG.normal(size=(150, 3))
    assert readable(noise, LABELS, reader) < chance(LABELS) + 0.12
    told = noise + 20 * (LABELS[:, None] == np.array(["a", "b", "c"]))
    assert readable(told, LABELS, reader) == 1


def test_neighbours_read_a_ring_that_no_line_can():
    angle, inside = RNG.uniform(0, 2 * np.pi, 300), np.arange(300) % 2
    ring = (1 + 2 * inside)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    assert readable(ring, inside, "neighbours") == 1
    assert readable(ring, inside, "logistic") < 0.7


def test_mixing_goes_from_one_to_the_number_of_labels():
    apart = RNG.normal(size=(300, 2)) + 100 * (np.arange(300) % 3)[:, None]
    assert local_mixing(apart, np.arange(300) % 3) == pytest.approx(1)
    assert 2.6 < local_mixing(RNG.normal(size=(600, 2)), np.arange(600) % 3) <= 3


def test_each_point_is_told_right_or_wrong():
    right = readable_n(RNG.normal(size=(150, 3)), LABELS)
    assert set(right) == {0, 1}
    assert right.shape == (150,)


def test_a_number_is_read_as_far_as_it_is_linear_in_the_points():
    z = RNG.normal(size=(400, 3))
    assert readable_number(z, z @ [1, -2, 0.5] + 3) > 0.999
    half = readable_number(z, z[:, 0] + RNG.normal(size=400))
    assert half == pytest.approx(0.5, abs=0.1)
    assert readable_number(z, RNG.normal(size=400)) < 0.02
    assert readable_number(z, np.ones(400)) == 0


def test_the_share_that_is_read_is_scikit_learns_r2():
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import StandardScaler

    z = RNG.normal(size=(100, 3)) * [1, 5, 20]
    value = z @ [1, 1, 1] + RNG.normal(size=100)
    folds = list(KFold(5, shuffle=True, random_state=0).split(z))
    told = np.empty(100)
    for train, test in folds:
        scaler = StandardScaler().fit(z[train])
        told[test] = RidgeCV([1.0]).fit(scaler.transform(z[train]), value[train]).predict(scaler.transform(z[test]))
    assert readable_number(z, value) == pytest.approx(r2_score(value, told))
