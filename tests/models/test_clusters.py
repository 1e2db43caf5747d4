"""Clusters of reference cells, and the mixture of normal distributions over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genevae.cells import Condition
from genevae.models.clusters import CELLS, FEWEST_CELLS, Clusters, cluster
from genevae.models.marginals import Marginals
from genevae.models.mixture import Mixture
from genevae.models.reference import Reference


@pytest.fixture
def reference():
    """Two types of 200 cells, of which one has two states, and a rare type."""
    generator = torch.Generator().manual_seed(0)
    code_n = torch.tensor([0] * 200 + [1] * 200 + [2] * (FEWEST_CELLS - 1))
    mean_nk = torch.randn(len(code_n), 3, generator=generator) + 20 * code_n[:, None]
    mean_nk[200:300, 0] += 10
    size_n1 = (7 + 0.3 * torch.randn(len(code_n), 1, generator=generator)).exp()
    condition = Condition(size_n1, {"type": code_n}, {})
    cluster_n = cluster(mean_nk, torch.full_like(mean_nk, 0.1), size_n1, condition.codes)
    marginals = tuple(Marginals.of(np.eye(4) + number) for number in range(int(cluster_n.max()) + 1))
    return Reference(mean_nk, torch.full_like(mean_nk, 0.1), condition, clusters=Clusters(cluster_n, marginals))


def test_clusters_are_of_one_combination_and_state(reference):
    cluster_n, code_n = reference.clusters.cluster_n, reference.condition.codes["type"]
    assert (cluster_n[code_n == 2] == -1).all(), "too few cells"
    for number in range(int(cluster_n.max()) + 1):
        here = cluster_n == number
        assert len(code_n[here].unique()) == 1
        share = (reference.mean_nk[here, 0] > 25).float().mean().item()
        assert min(share, 1 - share) < 0.05, "two states"
    assert int(cluster_n.max()) + 1 == 2 * (200 // CELLS)
    few = cluster(reference.mean_nk, reference.scale_nk, reference.condition.size_n1, {"type": code_n}, times=4)
    assert int(few.max()) + 1 == 2


def test_clusters_are_restored_and_damage_is_found(reference):
    tensors = reference.to_tensors()
    back = Reference.from_tensors(tensors).clusters
    assert torch.equal(back.cluster_n, reference.clusters.cluster_n)
    for a, b in zip(back.marginals, reference.clusters.marginals, strict=True):
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("gene_e", "value_e", "count_e"))
    for name, wrong in {
        "cluster_n": tensors["clusters/cluster_n"] + 100, "gene_e": tensors["clusters/gene_e"] + 4,
        "value_e": tensors["clusters/value_e"][1:], "count_e": tensors["clusters/count_e"] - 1,
        "end_c": tensors["clusters/end_c"].flip(0),
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match="clusters"):
            Reference.from_tensors({**tensors, f"clusters/{name}": wrong})


def test_draws_have_the_mean_and_the_spread_of_their_cluster(reference):
    torch.manual_seed(1)
    mixture = Mixture(reference, reference.clusters)
    for number in range(len(reference.clusters.marginals)):
        here = reference.clusters.cluster_n == number
        drawn, size_n1 = mixture.of_cluster(number, 4000), reference.condition.size_n1[here]
        assert torch.allclose(drawn.mean_nk.mean(0), reference.mean_nk[here].mean(0), atol=0.1)
        before, after = (
            torch.cat([each.mean_nk, each.condition.size_n1.log()], 1) for each in (reference.take(here), drawn)
        )
        assert after.var(0).sum().item() == pytest.approx(before.var(0).sum().item(), rel=0.1), (
            "shrinkage keeps the trace"
        )
        assert size_n1.min() <= drawn.condition.size_n1.min() <= drawn.condition.size_n1.max() <= size_n1.max()
        assert not (drawn.mean_nk[:, None] == reference.mean_nk).all(-1).any(), "copies"


def test_cells_of_rare_combinations_keep_their_posterior(reference):
    rare = (reference.clusters.cluster_n == -1).nonzero().squeeze(-1)
    drawn = Mixture(reference, reference.clusters).like(rare)
    assert torch.equal(drawn.mean_nk, reference.mean_nk[rare])
    assert torch.equal(drawn.scale_nk, reference.scale_nk[rare])
