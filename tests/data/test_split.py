"""Splits: laws that hold for every size, share and seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genevae.data.split import Split, group_split, held_out_split, random_split, stratified_split
from genevae.errors import CategoryError, DataError

SHARES = st.sampled_from([(0.1, 0.0), (0.1, 0.1), (0.25, 0.2), (0.0, 0.3), (0.45, 0.45), (0.0, 0.0)])
SEEDS = st.integers(0, 2**31)


def require_partition(split: Split, n: int) -> None:
    parts = (split.train, split.validation, split.test)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


def same(one: Split, other: Split) -> bool:
    pairs = ((one.train, other.train), (one.validation, other.validation), (one.test, other.test))
    return all(np.array_equal(a, b) for a, b in pairs)


# --- random -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(n=st.integers(3, 300), shares=SHARES, seed=SEEDS)
def test_random_parts_have_their_shares(n, shares, seed):
    split = random_split(n, *shares, seed=seed)
    require_partition(split, n)
    assert len(split.train) >= 1
    for part, share in ((split.validation, shares[0]), (split.test, shares[1])):
        assert (len(part) > 0) == (share > 0)
        assert abs(len(part) - share * n) <= 1
    assert same(split, random_split(n, *shares, seed=seed))


def test_seeds_differ_and_every_cell_can_validate():
    validated = np.concatenate([random_split(50, 0.2, seed=seed).validation for seed in range(60)])
    assert set(validated) == set(range(50))
    assert not same(random_split(50, seed=0), random_split(50, seed=1))


@pytest.mark.parametrize("split", [lambda **k: random_split(10, **k), lambda **k: group_split(range(10), **k)])
@pytest.mark.parametrize("shares", [(-0.1, 0.0), (0.5, 0.5), (1.0, 0.0), (0.0, 1.5), (float("nan"), 0.0)])
def test_shares_that_leave_nothing_are_refused(split, shares):
    with pytest.raises(DataError, match="leave nothing to train on"):
        split(validation=shares[0], test=shares[1])


@pytest.mark.parametrize(("n", "shares"), [(0, (0.0, 0.0)), (1, (0.1, 0.0)), (2, (0.1, 0.1))])
def test_too_few_cells_are_refused(n, shares):
    for split in (lambda: random_split(n, *shares), lambda: stratified_split(np.zeros(n, dtype=int), *shares)):
        with pytest.raises(DataError, match=f"There are {n} cells"):
            split()


# --- stratified -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8), shares=SHARES, seed=SEEDS)
def test_labels_keep_their_proportions(sizes, shares, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat([f"l{i}" for i in range(len(sizes))], sizes))
    if len(labels) < 3:
        return
    split = stratified_split(labels, *shares, seed=seed)
    require_partition(split, len(labels))
    for label, size in zip([f"l{i}" for i in range(len(sizes))], sizes, strict=True):
        n_train = (labels[split.train] == label).sum()
        n_validation = (labels[split.validation] == label).sum()
        n_test = (labels[split.test] == label).sum()
        assert n_train >= 1
        assert n_test <= size * shares[1] + 1
        assert n_validation <= size * shares[0] + 1
        if n_train > 1:  # a part is short only where training would have had no cell
            assert n_test >= size * shares[1] - 1
            assert n_validation >= size * shares[0] - 1
    assert same(split, stratified_split(labels, *shares, seed=seed))


def test_rounding_evens_out_over_small_labels():
    labels = np.repeat(np.arange(100), 4)
    assert len(stratified_split(labels, validation=0.1).validation) == 40


def test_missing_labels_are_a_label():
    labels = pd.Series(["a"] * 20 + [None] * 20, dtype="category")
    split = stratified_split(labels, validation=0.5)
    assert labels.isna().to_numpy()[split.validation].sum() == 10


# --- groups -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=3, max_size=12), shares=SHARES, seed=SEEDS)
def test_no_group_is_on_two_sides(sizes, shares, seed):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    split = group_split(groups, *shares, seed=seed)
    require_partition(split, len(groups))
    sides = [set(groups[part]) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(sizes)
    assert [bool(side) for side in sides] == [True, shares[0] > 0, shares[1] > 0]
    assert same(split, group_split(groups, *shares, seed=seed))


@pytest.mark.parametrize("seed", range(5))
def test_many_even_groups_meet_the_shares(seed):
    split = group_split(np.repeat(np.arange(40), 10), validation=0.2, test=0.1, seed=seed)
    assert abs(len(split.validation) - 80) <= 10
    assert abs(len(split.test) - 40) <= 10


@pytest.mark.parametrize("seed", range(10))
def test_small_groups_are_not_all_taken_by_the_test(seed):
    split = group_split(np.repeat([0, 1, 2], [1, 1, 30]), validation=0.45, test=0.45, seed=seed)
    assert min(len(split.train), len(split.validation), len(split.test)) >= 1


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match="There are 2 groups, too few for training, validation, test"):
        group_split(["a", "a", "b"], 0.1, 0.1)


# --- held out ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def obs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "cell_type": pd.Categorical(rng.choice(["B", "T", "NK"], 200)),
            "condition": rng.choice(["ctrl", "stim"], 200),
            "treated": rng.choice([True, False], 200),
        }
    )


def test_the_whole_combination_is_the_test(obs):
    split = held_out_split(obs, {"cell_type": "B", "condition": "stim"}, validation=0.2)
    require_partition(split, len(obs))
    held_out = ((obs["cell_type"] == "B") & (obs["condition"] == "stim")).to_numpy()
    assert np.array_equal(split.test, np.flatnonzero(held_out))
    assert abs(len(split.validation) - 0.2 * (~held_out).sum()) <= 1
    assert len(held_out_split(obs, {"treated": "True"}).test) == obs["treated"].sum()


def test_unknown_fields_and_values_name_the_nearest(obs):
    with pytest.raises(CategoryError, match=r"no obs column 'celltype'.*Did you mean 'cell_type'"):
        held_out_split(obs, {"celltype": "B"})
    with pytest.raises(CategoryError, match=r"No cell has condition=stimm. Did you mean 'stim'"):
        held_out_split(obs, {"condition": "stimm"})


def test_impossible_combinations_are_refused(obs):
    one = obs[(obs["cell_type"] != "B") | (obs["condition"] != "stim")]
    with pytest.raises(CategoryError, match="No cell has cell_type=B, condition=stim, though each"):
        held_out_split(one, {"cell_type": "B", "condition": "stim"})
    with pytest.raises(CategoryError, match="No combination"):
        held_out_split(obs, {})
    with pytest.raises(DataError, match="none is left for training"):
        held_out_split(obs[obs["cell_type"] == "B"], {"cell_type": "B"})
