"""InfoNCE and its laws; what it does to the model, joint and frozen."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from genevae.data.schema import Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.objectives.contrastive import Contrastive, info_nce_n, similarities_nn
from genevae.objectives.elbo import ELBO
from genevae.objectives.masking import GeneMask
from genevae.objectives.objective import Progress
from genevae.objectives.schedules import Ramp
from genevae.recipes.contrastive import CONTRASTIVE

SCHEMA = Schema(tuple("abcdefg"), Kind.LOG, group=Categorical("type", ("a", "b"), unknown=True))
SIZES = st.integers(1, 12)
SEEDS = st.integers(0, 99)


def views(n: int, seed: int, k: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, n, k, generator=generator, dtype=torch.float64)
    return F.normalize(a, dim=-1), F.normalize(b, dim=-1)


def nce(a: Tensor, b: Tensor, temperature: float = 0.07, group_n: Tensor | None = None) -> Tensor:
    return info_nce_n(similarities_nn(a, b, temperature, group_n))


@given(SIZES, SEEDS)
def test_the_order_of_pairs_does_not_matter_nor_which_view_is_first(n, seed):
    a, b = views(n, seed)
    loss_n, order = nce(a, b), torch.randperm(n)
    torch.testing.assert_close(nce(a[order], b[order]), loss_n[order])
    torch.testing.assert_close(nce(b, a), loss_n)
    assert (loss_n >= 0).all()


@given(SIZES, st.floats(0.01, 10))
def test_it_is_log_n_where_all_are_equally_similar(n, temperature):
    a, _ = views(1, 0)
    same = a.expand(n, -1)
    torch.testing.assert_close(nce(same, same, temperature), torch.full((n,), math.log(n), dtype=torch.float64))


def test_it_is_the_formula_of_the_paper():
    a, b = views(5, 1)
    s = (a @ b.T / 0.5).exp()
    expected = -(s.diag() / s.sum(1)).log() / 2 - (s.diag() / s.sum(0)).log() / 2
    torch.testing.assert_close(nce(a, b, 0.5), expected)


def test_it_tends_to_zero_for_views_that_agree_and_are_apart_and_a_low_temperature_sharpens_it():
    apart = torch.eye(6, dtype=torch.float64)
    losses = [nce(apart, apart, temperature).mean().item() for temperature in (1.0, 0.2, 0.07)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-5


@given(st.integers(2, 8), SEEDS)
def test_its_gradient_pulls_the_pair_together_and_pushes_the_others_away(n, seed):
    a, b = views(n, seed)
    s = similarities_nn(a, b, 0.5).requires_grad_()
    (gradient,) = torch.autograd.grad(info_nce_n(s).sum(), s)
    is_pair = torch.eye(n, dtype=torch.bool)
    assert (gradient[is_pair] < 0).all()
    assert (gradient[~is_pair] > 0).all()


@given(SEEDS)
def test_other_pairs_of_the_group_are_neither_for_nor_against(seed):
    a, b = views(4, seed)
    group_n = torch.tensor([0, 1, 0, 2])
    s = similarities_nn(a, b, 0.07, group_n)
    assert torch.isneginf(s).nonzero().tolist() == [[0, 2], [2, 0]]
    without_2 = torch.tensor([0, 1, 3])
    torch.testing.assert_close(nce(a, b, 0.07, group_n)[0], nce(a[without_2], b[without_2])[0])
    moved = b.clone()
    moved[2] = -moved[2]
    torch.testing.assert_close(nce(a, moved, 0.07, group_n)[0], nce(a, b, 0.07, group_n)[0])


def test_pairs_of_one_group_alone_have_nothing_to_tell():
    a, b = views(3, 0)
    torch.testing.assert_close(nce(a, b, 0.07, torch.zeros(3)), torch.zeros(3, dtype=torch.float64))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CONTRASTIVE.edit({"n_latent": 3, "hidden": (8,)}).build(SCHEMA)


def paired(cells):
    codes = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 2, 2])
    return cells.given(cells.condition.replace(codes={"type": codes}))


def of(weight: float = 1.0, frozen: bool = False, mask: GeneMask | None = None, beta: float = 1.0) -> Contrastive:
    return Contrastive(ELBO(Ramp(beta, 0.5), mask=mask), "type", 2, weight, frozen=frozen)


def gradients(model, objective, cells) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model.zero_grad()
    objective(model, cells).total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_total_is_the_bound_and_the_weighted_pairs(model, make_cells):
    cells, elbo = paired(make_cells(counts=False)), ELBO()
    torch.manual_seed(1)
    bound = elbo(model.eval(), cells)
    torch.manual_seed(1)
    loss = of(weight=3.0)(model, cells)
    torch.testing.assert_close(loss.total, bound.total + 3 * loss.terms["contrastive"])
    torch.testing.assert_close(loss.per_cell_n.mean(), loss.total)
    assert loss.per_cell_n.shape == (12,)
    assert 0 <= loss.terms["retrieval"] <= 1


def test_only_a_joint_posterior_learns_from_pairs(model, make_cells):
    cells = paired(make_cells(counts=False))
    model.eval()
    alone = gradients(model, ELBO(), cells)
    frozen = gradients(model, of(frozen=True), cells)
    joint = gradients(model, of(), cells)
    for name, gradient in alone.items():
        assert torch.equal(frozen[name], gradient), name
    learned = {name for name in joint if name not in alone or not torch.equal(joint[name], alone[name])}
    assert any(name.startswith("_posterior") for name in learned)
    heads = {name for name, _ in model.named_parameters() if name.startswith("projection")}
    assert heads == set(frozen) - set(alone)
    assert heads < learned
    assert all(frozen[name].abs().sum() > 0 for name in heads if "out" in name)


@pytest.mark.parametrize("group_m", [(0, 1, 0, 1, 2, 2), (2, 2, 0, 1, 0, 1), (0, 2, 1, 2, 0, 1)])
def test_rows_without_a_group_are_held_against_all_others(model, make_cells, group_m):
    cells = make_cells(counts=False)
    cells = cells.given(cells.condition.replace(codes={"type": torch.tensor(group_m).repeat_interleave(2)}))
    s = of()._compare(model.eval(), torch.randn(12, 3), cells)
    related = {tuple(place) for place in torch.isneginf(s).nonzero().tolist()}
    same = {(i, j) for i in range(6) for j in range(6) if i != j and group_m[i] == group_m[j] != 2}
    assert related == same


def test_validation_reports_the_masks_and_training_does_not(model, make_cells):
    cells = paired(make_cells(counts=False))
    objective = of(mask=GeneMask())
    usual = {"reconstruction", "kl", "contrastive", "retrieval"}
    assert set(objective(model, cells).terms) == usual
    masked = {"reconstruction_fixed_mask", "reconstruction_dynamic_mask"}
    assert set(objective.eval()(model.eval(), cells).terms) == usual | masked | {"mse"}


def test_it_has_settled_once_beta_has():
    assert not of(beta=0.3).settled(Progress(10, 100))
    assert of(beta=0.3).settled(Progress(60, 100))
    assert of(beta=0.3).beta.target == 0.3


def test_a_model_without_a_projection_is_refused(make_cells):
    from genevae.recipes.bulk import BULK

    with pytest.raises(TypeError, match="projection"):
        of()(BULK.edit({"n_latent": 3, "hidden": (8,)}).build(SCHEMA), paired(make_cells(counts=False)))


def test_training_by_pairs_makes_them_find_each_other(model, make_cells):
    torch.manual_seed(0)
    cells = paired(make_cells(counts=False))
    objective, optimizer = of(weight=10.0), torch.optim.Adam(model.parameters(), lr=1e-2)
    first = objective(model, cells).terms["contrastive"]
    for _ in range(100):
        loss = objective(model, cells)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.terms["contrastive"] < first / 2
