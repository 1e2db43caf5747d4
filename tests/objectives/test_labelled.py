"""Labels that are missing are summed over: laws of the prior, and of the loss of known labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from genevae.data.schema import Categorical as Field
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError
from genevae.models.prior import LabelNormal
from genevae.recipes.semi import SEMI, label_of

SEEDS = st.integers(0, 1000)
N, C, K = 9, 4, 3


def prior(seed: int) -> tuple[LabelNormal, Normal]:
    """Return the prior of nine cells, of which the last three have no label, and a posterior."""
    generator = torch.Generator().manual_seed(seed)
    mean_ck, scale_ck = torch.randn(C, K, generator=generator), torch.rand(C, K, generator=generator) + 0.3
    log_share_c = torch.randn(C, generator=generator).log_softmax(-1)
    code_n = torch.cat([torch.randint(C, (6,), generator=generator), torch.full((3,), C)])
    q = Normal(torch.randn(N, K, generator=generator), torch.rand(N, K, generator=generator) + 0.1)
    return LabelNormal(mean_ck, scale_ck, log_share_c, code_n), q


@given(SEEDS)
def test_with_a_label_the_divergence_is_that_from_its_normal(seed):
    p, q = prior(seed)
    expected_n = kl_divergence(q, Normal(p.mean, p.scale)).sum(-1)
    torch.testing.assert_close(p.kl_n(q)[:6], expected_n[:6])


@given(SEEDS)
def test_without_a_label_the_divergence_is_the_smallest_over_all_guesses_of_the_label(seed):
    p, q = prior(seed)
    kl_nc = p.kl_nc(q)[6:]

    def with_guess(r_nc):
        return (r_nc * (kl_nc + (r_nc.clamp(min=1e-30).log() - p.log_share_c))).sum(-1)

    best_n = with_guess(p.log_labels_nc(q)[6:].exp())
    torch.testing.assert_close(best_n, p.kl_n(q)[6:], rtol=1e-4, atol=1e-4)
    other = torch.rand(3, C, generator=torch.Generator().manual_seed(seed))
    assert (with_guess(other / other.sum(-1, keepdim=True)) >= best_n - 1e-5).all()


@given(SEEDS)
def test_without_a_label_mean_and_variance_are_those_of_the_mixture(seed):
    p, _ = prior(seed)
    weights = Categorical(logits=p.log_share_c.expand(K, C))
    mixture = MixtureSameFamily(weights, Normal(p.mean_ck.T, p.scale_ck.T))
    torch.testing.assert_close(p.mean[6:], mixture.mean.expand(3, K))
    torch.testing.assert_close(p.variance[6:], mixture.variance.expand(3, K), rtol=1e-4, atol=1e-5)


def schema(*fields: Field) -> Schema:
    return Schema(tuple("abcdefg"), Kind.COUNTS, categorical=fields)


def test_the_label_has_no_embedding_and_cells_without_one_no_part_in_its_loss(make_cells):
    label, lane = Field("type", ("A", "B", "C"), unknown=True), Field("lane", ("x", "y"), technical=True, unknown=True)
    torch.manual_seed(0)
    known = schema(label, lane)
    model, objective = SEMI.build(known), SEMI.make_objective(known, 1)
    assert not any("embeddings.1" in name for name in model.state_dict())
    cells = make_cells(60)
    every = objective(model, cells)
    assert set(every.terms) >= {"labels", "label_accuracy", "adversary", "views"}
    none = objective(model, cells.given(cells.condition.replace({"type": torch.full((60,), 3)})))
    assert none.terms["labels"] == 0
    assert every.terms["labels"] > 0


def test_the_field_of_the_labels_is_the_first_that_is_one():
    lane, drug = Field("lane", ("x", "y"), technical=True), Field("drug", ("ctrl", "a"), control="ctrl")
    label = Field("type", ("A", "B"))
    assert label_of(schema(lane, drug, label)) is label
    with pytest.raises(RecipeError, match="--labels cell_type"):
        label_of(schema(lane, drug))
