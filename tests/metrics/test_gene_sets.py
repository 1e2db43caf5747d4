"""Genes of one set, told by how alike they are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from genevae.metrics.gene_sets import co_membership, in_sets, members_of, similarity

RNG = np.random.default_rng(0)
GENES = [f"g{i}" for i in range(60)]
SETS = {"one": GENES[:20], "two": GENES[15:40]}
PLACES = members_of(GENES, SETS.values())
MEMBER = in_sets([GENES[i] for i in PLACES], SETS.values())


def test_membership_is_that_of_the_sets() -> None:
    assert PLACES.tolist() == list(range(40))
    assert MEMBER.sum(0).tolist() == [20, 25]
    assert MEMBER[17].tolist() == [True, True]


def test_auroc_is_scikit_learns_and_recall_counts_the_top_pairs() -> None:
    alike = similarity(RNG.normal(size=(40, 5)).round(1))
    upper = np.triu_indices(40, 1)
    together = (MEMBER.astype(int) @ MEMBER.T.astype(int) > 0)[upper]
    found = co_membership(alike, MEMBER)
    assert found.auroc == pytest.approx(roc_auc_score(together, alike[upper]))
    top = np.argsort(-alike[upper], kind="stable")[: round(0.05 * len(together))]
    assert found.recall == pytest.approx(together[top].sum() / together.sum(), abs=0.01)


def test_vectors_of_the_sets_tell_all_and_noise_tells_nothing() -> None:
    told = co_membership(similarity(MEMBER + 0.01 * RNG.normal(size=MEMBER.shape)), MEMBER)
    noise = np.mean([co_membership(similarity(RNG.normal(size=(40, 20))), MEMBER) for _ in range(30)], axis=0)
    assert told.auroc == 1
    assert told.recall == pytest.approx(39 / 480, abs=0.03)  # all of the top 39 pairs
    assert noise == pytest.approx([0.5, 0.05], abs=0.02)


def test_similarity_of_centred_expression_is_pearsons_correlation() -> None:
    x = RNG.normal(size=(30, 8))
    np.testing.assert_allclose(similarity((x - x.mean(0)).T), np.corrcoef(x.T), atol=1e-6)
    assert similarity(np.zeros((2, 3))).tolist() == [[0, 0], [0, 0]]


def test_pairs_that_all_share_a_set_tell_nothing() -> None:
    assert np.isnan(co_membership(np.eye(3), np.ones((3, 1)))).all()
