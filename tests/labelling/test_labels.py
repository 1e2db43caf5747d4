"""Label models: spaces beside scikit-learn, probabilities that can be trusted, sets, and labels never seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from genevae.labelling.labels import BOUND, Labels
from genevae.labelling.space import Space, neighbour_shares
from genevae.metrics.labels import auroc, expected_calibration_error

Cells = tuple[NDArray[np.float32], NDArray[np.int64]]
NAMES = ("A", "B", "C")


@pytest.fixture(scope="module")
def draw() -> Callable[[int, int], Cells]:
    """Four types, two of which overlap; the last one has no label in training."""

    def make(n: int, seed: int) -> Cells:
        rng = np.random.default_rng(seed)
        centre = 1.5 * np.random.default_rng(99).normal(size=(4, 25))
        centre[1] = centre[0] + 0.4
        code_n = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
        return (centre[code_n] + rng.normal(size=(n, 25))).astype(np.float32), code_n

    return make


@pytest.fixture(scope="module")
def labels(draw) -> Labels:
    x_ng, code_n = draw(600, 1)
    return Labels.fit(x_ng, None, {"type": np.where(code_n == 3, -1, code_n)}, {"type": NAMES})


@pytest.fixture(scope="module")
def new(draw) -> Cells:
    return draw(2000, 2)


def test_axes_are_principal_components(draw):
    x_ng, _ = draw(200, 3)
    space, oracle = Space.fit(x_ng), PCA(25).fit(x_ng)
    np.testing.assert_allclose(np.abs(space.cell_nk), np.abs(oracle.transform(x_ng)), atol=2e-3)
    np.testing.assert_allclose(space.embed(x_ng), space.cell_nk, atol=1e-4)


def test_neighbours_are_those_of_scikit_learn(draw):
    space, (x_ng, _) = Space.fit(draw(200, 3)[0]), draw(50, 4)
    near = NearestNeighbors(n_neighbors=15).fit(space.training_nk)
    z_nk = space.embed(x_ng)
    np.testing.assert_array_equal(np.sort(space.nearest(z_nk)), np.sort(near.kneighbors(z_nk, return_distance=False)))
    others = space.nearest(space.training_nk, of_training=True)
    np.testing.assert_array_equal(np.sort(others), np.sort(near.kneighbors(return_distance=False)))
    assert not (others == np.arange(200)[:, None]).any()


def test_shares_of_neighbours_sum_to_one_and_leave_unlabelled_cells_out():
    log_p = neighbour_shares(np.array([[0, 1, 2], [3, 3, 3]]), np.array([0, 0, 1, -1]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(np.exp(log_p), [[2.5 / 4, 1.5 / 4], [0.5, 0.5]])


def test_probabilities_are_calibrated_and_sets_hold_the_true_label(labels, new):
    x_ng, code_n = (each[new[1] < 3] for each in new)
    found = labels.predict("type", x_ng)
    np.testing.assert_allclose(found.probability_nc.sum(1), 1)
    right_n = found.probability_nc.argmax(1) == code_n
    assert 0.8 < right_n.mean() < 0.95
    assert expected_calibration_error(right_n, found.probability_nc.max(1)) < 0.03
    assert 0.87 < found.in_set_nc[np.arange(len(code_n)), code_n].mean() < 0.93
    assert abs(found.unknown_n.mean() - 0.5) < 0.05


def test_a_label_never_seen_is_far_from_all(labels, new):
    x_ng, code_n = new
    assert auroc(code_n == 3, labels.predict("type", x_ng).unknown_n) > 0.9


def test_a_cell_has_the_same_label_alone(labels, new):
    x_ng = new[0][:40]
    one, all_of_them = labels.predict("type", x_ng[7:8]), labels.predict("type", x_ng)
    np.testing.assert_allclose(one.probability_nc[0], all_of_them.probability_nc[7], rtol=1e-4)
    np.testing.assert_allclose(one.unknown_n[0], all_of_them.unknown_n[7], atol=1e-4)


def test_the_bound_gets_the_weight_that_it_earns(labels, draw):
    x_ng, code_n = (each[code < 3] for each, code in [(each, draw(400, 5)[1]) for each in draw(400, 5)])
    rng = np.random.default_rng(0)
    knows = np.log(np.where(np.eye(3)[code_n] > 0, 0.98, 0.01))
    errs = np.log(np.where(np.eye(3)[rng.integers(3, size=len(code_n))] > 0, 0.98, 0.01))
    weight = {}
    for name, bound_nc in {"knows": knows, "errs": errs}.items():
        found = labels.with_bound("type", x_ng, None, bound_nc, code_n)
        weight[name] = found.fields["type"].weight_m[BOUND]
        predicted = found.predict("type", x_ng, None, bound_nc).probability_nc.argmax(1)
        assert (predicted == code_n).mean() >= (labels.predict("type", x_ng).probability_nc.argmax(1) == code_n).mean()
    assert weight["errs"] == 0
    assert weight["knows"] > 0.3
    assert labels.with_bound("type", x_ng, None, knows, code_n).uses_bound("type")


def test_genes_that_were_not_measured_count_as_average(labels, new):
    x_ng, measured_ng = new[0][:50].copy(), np.ones((50, 25), dtype=bool)
    measured_ng[:, 20:] = False
    hidden = labels.predict("type", np.where(measured_ng, x_ng, 0).astype(np.float32), measured_ng)
    average = labels.predict("type", np.where(measured_ng, x_ng, labels.mean_g).astype(np.float32))
    np.testing.assert_array_equal(hidden.probability_nc, average.probability_nc)


@pytest.mark.parametrize("n", [2, 3, 7, 20])
def test_few_cells_and_genes_without_variance_do(draw, n):
    x_ng, code_n = draw(n, 6)
    x_ng[:, :3] = 1
    code_n = np.arange(n) % 2
    found = Labels.fit(x_ng, None, {"type": code_n}, {"type": NAMES}).predict("type", x_ng)
    assert np.isfinite(found.probability_nc).all()
    assert (found.probability_nc[:, 2] < 0.2).all()
    assert np.isfinite(found.unknown_n).all()


def test_it_comes_back_from_its_numbers_to_the_bit(labels, new):
    opened = Labels.restore(labels.to_json(), labels.to_arrays())
    for one, other in zip(labels.predict("type", new[0]), opened.predict("type", new[0]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "name", ["mean_g", "space1/axis_gk", "field0/weight_kc1", "field0/code_n", "field0/quantile_q"]
)
def test_numbers_that_do_not_fit_are_named(labels, name):
    arrays = labels.to_arrays()
    for wrong in ({**arrays, name: arrays[name][..., :-1][:0]}, {n: x for n, x in arrays.items() if n != name}):
        with pytest.raises(ValueError, match=r"has the shape|is missing|do not fit|not valid"):
            Labels.restore(labels.to_json(), wrong)
    with pytest.raises(ValueError, match="is not part of it"):
        Labels.restore(labels.to_json(), {**arrays, "more": np.ones(1)})


def test_labels_without_cells_have_no_distance(labels, new):
    field = labels.fields["type"]
    mean_ck = np.vstack([field.distance.mean_ck[:2], np.full((1, field.distance.mean_ck.shape[1]), np.nan)])
    without = replace(field.distance, mean_ck=mean_ck)
    z_nk = labels.spaces[-1].embed(new[0])
    assert (without.square_n(z_nk) >= field.distance.square_n(z_nk) - 1e-6).all()
