"""The laws of the cycle."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import kl_divergence

from genevae.cells import Cells, ExpressionRows
from genevae.models.additive import Additive, Delta
from genevae.nn.heads import AdditiveHeads
from genevae.objectives.cycle import (
    ContextClassifier,
    Cycle,
    disagreement_n,
    missing_share_n,
    random_targets,
    translate_and_back,
)
from genevae.objectives.objective import Progress
from genevae.objectives.running_scale import RunningScale
from genevae.objectives.schedules import Ramp

N, G = 24, 9
CATEGORIES = {"type": ("a", "b", "c"), "lane": ("x", "y")}
SIZES = {name: len(each) for name, each in CATEGORIES.items()}


@pytest.fixture
def model() -> Additive:
    torch.manual_seed(0)
    return Additive(AdditiveHeads(G, SIZES, 5, (4,), nn.ReLU, scale=0.3), G)


@pytest.fixture
def cells(make_cells) -> Cells:
    cells = make_cells(N, G)
    return Cells(cells.x.map(torch.log1p), cells.condition, cells.row_n)


@pytest.fixture
def critic() -> ContextClassifier:
    torch.manual_seed(1)
    critic = ContextClassifier(G, SIZES)
    nn.init.normal_(critic.weight_gc)
    nn.init.normal_(critic.bias_c)
    return critic


def with_codes(cells: Cells, **codes) -> Cells:
    return cells.given(cells.condition.replace(codes))


def written_down(model, critic, cells, target):
    """Take the same way with every expression written down."""
    heads, source = model.heads, cells.condition.codes
    there = heads.encode(cells.x, source)
    made = heads.decode(there, target)
    back = heads.encode(ExpressionRows.from_dense(made), target)
    home = heads.decode(back, source)
    logits = [x @ critic.weight_gc + critic.bias_c for x in (cells.x.dense(), made)]
    return there, back, (home - cells.x.dense()).square(), logits


@pytest.mark.parametrize("stored", [True, False], ids=["sparse", "dense"])
@pytest.mark.parametrize("panels", [True, False], ids=["some genes unmeasured", "all measured"])
def test_the_short_way_ends_where_the_long_way_does(model, critic, cells, stored, panels):
    torch.manual_seed(2)
    measured = torch.rand(N, G) > 0.3
    if panels:
        x = ExpressionRows.from_dense(cells.x.dense() * measured)
        cells = Cells(x, cells.condition.with_measured(measured), cells.row_n)
    elif not stored:
        cells = Cells(ExpressionRows.from_dense(cells.x.dense()), cells.condition, cells.row_n)
    target = random_targets(cells.condition.codes, SIZES)
    cycle_pass = translate_and_back(model.heads, critic, cells, target)
    there, back, squared, logits = written_down(model, critic, cells, target)
    squared = squared * measured if panels else squared
    torch.testing.assert_close(cycle_pass.z_source_nk, there)
    torch.testing.assert_close(cycle_pass.z_target_nk, back)
    torch.testing.assert_close(cycle_pass.squared_n, squared.sum(-1), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(cycle_pass.logits_real_nc, logits[0])
    torch.testing.assert_close(cycle_pass.logits_translated_nc, logits[1])
    ours = torch.autograd.grad(cycle_pass.squared_n.sum(), list(model.heads.parameters()))
    theirs = torch.autograd.grad(squared.sum(), list(model.heads.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_where_source_and_target_are_one_the_cycle_is_reconstruction_twice(model, critic, cells):
    source = cells.condition.codes
    cycle_pass = translate_and_back(model.heads, critic, cells, source)
    once = model.likelihood(model.posterior(cells).mean, cells.condition).mean
    again = Cells(ExpressionRows.from_dense(once), cells.condition, cells.row_n)
    twice = model.likelihood(model.posterior(again).mean, cells.condition).mean
    expected = (twice - cells.x.dense()).square().sum(-1)
    torch.testing.assert_close(cycle_pass.squared_n, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(cycle_pass.z_source_nk, model.posterior(cells).mean)


def test_hidden_states_that_agree_cost_nothing_and_those_that_share_nothing_cost_two(model, critic, cells):
    cycle_pass = translate_and_back(model.heads, critic, cells, cells.condition.codes)
    same = type(cycle_pass)(**{**vars(cycle_pass), "z_target_nk": cycle_pass.z_source_nk})
    other = type(cycle_pass)(**{**vars(cycle_pass), "z_target_nk": 0 * cycle_pass.z_source_nk})
    torch.testing.assert_close(disagreement_n(model.heads, same), torch.zeros(N))
    torch.testing.assert_close(disagreement_n(model.heads, other), torch.full((N,), 2.0))


def test_reading_what_was_made_changes_the_model_and_never_the_classifier(model, critic, cells):
    target = random_targets(cells.condition.codes, SIZES)
    cycle_pass = translate_and_back(model.heads, critic, cells, target)
    critic.cross_entropy_n(cycle_pass.logits_translated_nc, target).sum().backward(retain_graph=True)
    for parameter in critic.parameters():
        assert parameter.grad is None or (parameter.grad == 0).all()
    assert all((head.free_write_gh.grad.abs() > 0).any() for head in model.heads.heads)
    model.zero_grad()
    critic.cross_entropy_n(cycle_pass.logits_real_nc, cells.condition.codes).sum().backward()
    assert (critic.weight_gc.grad.abs() > 0).any()
    assert all(parameter.grad is None or (parameter.grad == 0).all() for parameter in model.parameters())


def test_surprise_is_the_mean_of_cross_entropies_and_one_by_chance(critic, cells):
    logits, codes = cells.x.dense() @ critic.weight_gc, cells.condition.codes
    expected = [
        F.cross_entropy(part, codes[name], reduction="none") / torch.tensor(float(n)).log()
        for part, (name, n) in zip(logits.split([3, 2], -1), SIZES.items(), strict=True)
    ]
    torch.testing.assert_close(critic.cross_entropy_n(logits, codes), sum(expected) / 2)
    torch.testing.assert_close(critic.cross_entropy_n(0 * logits, codes), torch.ones(N))


def test_a_category_that_is_missing_is_neither_drawn_nor_asked_for(model, critic, cells):
    cells = with_codes(cells, type=torch.full((N,), 3))
    target = random_targets(cells.condition.codes, SIZES)
    assert (target["type"] == 3).all()
    assert set(target["lane"].tolist()) == {0, 1}
    cycle_pass = translate_and_back(model.heads, critic, cells, target)
    lane = (
        F.cross_entropy(cycle_pass.logits_translated_nc[:, 3:], target["lane"], reduction="none")
        / torch.tensor(2.0).log()
    )
    torch.testing.assert_close(critic.cross_entropy_n(cycle_pass.logits_translated_nc, target), lane / 2)


def test_targets_are_drawn_alike_however_rare_a_category_is():
    torch.manual_seed(0)
    codes = {"type": torch.zeros(30_000, dtype=torch.int64)}
    share = random_targets(codes, {"type": 3})["type"].bincount() / 30_000
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), atol=0.02, rtol=0)


def test_permuting_cells_permutes_their_losses(model, cells):
    objective = Cycle(G, CATEGORIES).eval()
    order = torch.randperm(N)
    x = ExpressionRows.from_dense(cells.x.dense()[order])
    cells = with_codes(cells, type=torch.zeros(N).long(), lane=torch.zeros(N).long())
    permuted = Cells(x, cells.condition, cells.row_n[order])
    losses = []
    for each in (cells, permuted):
        torch.manual_seed(5)
        target = {name: code_n * 0 + 1 for name, code_n in each.condition.codes.items()}
        losses.append(translate_and_back(model.heads, objective.classifier, each, target).squared_n)
    torch.testing.assert_close(losses[1], losses[0][order], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_a_running_scale_takes_the_units_away(unit):
    generator = torch.Generator().manual_seed(0)
    terms = [torch.rand(8, generator=generator) for _ in range(30)]
    plain, scaled = RunningScale(), RunningScale()
    for term_n in terms:
        torch.testing.assert_close(scaled(unit * term_n), plain(term_n))


def test_a_running_scale_is_the_mean_at_first_and_leaves_what_is_solved_alone():
    scale = RunningScale(memory=0.9, solved=0.1)
    for value in (1.0, 3.0):
        scale(torch.full((4,), value))
    assert scale.scale.item() == pytest.approx(2.0)
    for _ in range(200):
        small = scale(torch.full((4,), 1e-6))
    assert small.max() < 1e-4
    assert scale(torch.full((4,), 0.0)).isfinite().all()


def test_validation_compares_epochs_by_terms_that_are_not_rescaled(model, cells):
    objective = Cycle(G, CATEGORIES, Ramp(0.5, 0.5))
    before = {name: buffer.clone() for name, buffer in objective.eval().named_buffers()}
    torch.manual_seed(3)
    loss = objective(model, cells)
    expected = loss.terms["cycle"] + 0.5 * (loss.terms["integration"] + loss.terms["target"])
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.per_cell_n.mean(), expected)
    assert all(torch.equal(before[name], buffer) for name, buffer in objective.named_buffers())
    torch.manual_seed(3)
    assert torch.equal(objective(model, cells).total, loss.total)


@pytest.mark.parametrize("settings", [{}, {"scaling": "learned"}, {"scaling": "fitted"}], ids=str)
def test_weights_never_turn_negative_however_large_the_steps(settings, cells):
    torch.manual_seed(0)
    model, objective = Additive(AdditiveHeads(G, SIZES, 5, (4,), nn.ReLU, **settings), G), Cycle(G, CATEGORIES)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=0.3)
    for step in range(50):
        optimizer.zero_grad()
        objective(model, cells, Progress(step, 50)).total.backward()
        optimizer.step()
        assert (model.heads.first_layer() >= 0).all()
        assert (model.heads.last_layer() >= 0).all()
    assert any((parameter < 0).any() for parameter in model.heads.parameters()), "the steps were large enough to tell"
    assert (model.likelihood(model.posterior(cells).mean, cells.condition).mean >= 0).all()


def test_training_makes_the_cycle_shorter_and_reports_what_each_field_adds(model, cells):
    objective = Cycle(G, CATEGORIES)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=0.01)
    seen = []
    for step in range(150):
        optimizer.zero_grad()
        loss = objective(model, cells, Progress(step, 150))
        loss.total.backward()
        optimizer.step()
        seen.append(loss.terms)
    assert seen[-1]["cycle"] < 0.7 * seen[0]["cycle"]
    assert seen[-1]["classifier"] < seen[0]["classifier"]
    names = {"influence base", "influence type", "influence type=a", "influence type=c", "influence lane=y"}
    assert names <= set(seen[-1])
    assert all(0 < seen[-1][name] < 1 for name in names)


def test_the_penalty_of_the_base_is_that_of_its_contribution(model, critic, cells):
    source = cells.condition.codes
    cycle = translate_and_back(model.heads, critic, cells, source)
    added = model.heads.contributions(cycle.z_source_nk, source)
    base_n = added["base"].norm(dim=-1) / sum(added.values()).norm(dim=-1)
    for share in (0.01, 0.5, 0.99):
        expected = ((share - base_n).clamp(min=0) / share).square()
        torch.testing.assert_close(missing_share_n(model.heads, cycle, share), expected, rtol=1e-4, atol=1e-4)
    model.heads.base.free_unit_gh.data.zero_()
    cycle = translate_and_back(model.heads, critic, cells, source)
    torch.testing.assert_close(missing_share_n(model.heads, cycle, 0.5), torch.ones(N), rtol=1e-3, atol=1e-3)


def test_a_point_is_drawn_as_it_is_and_costs_nothing(model, cells):
    q = model.posterior(cells)
    assert isinstance(q, Delta)
    assert torch.equal(q.sample(), q.mean)
    assert torch.equal(q.rsample((3,))[2], q.mean)
    assert (kl_divergence(q, model.prior(cells.condition)) == 0).all()
    bound_n = model.bound_n(cells, n_particles=3)
    torch.testing.assert_close(bound_n, model.likelihood(q.mean, cells.condition).log_prob_n(cells.x))


def test_sigma_is_the_error_of_each_gene(model, cells):
    for _ in range(3):
        model.update_variance(model.likelihood(model.posterior(cells).mean, cells.condition).mean, cells)
    p = model.likelihood(model.posterior(cells).mean, cells.condition)
    torch.testing.assert_close(p.variance[0], (p.mean - cells.x.dense()).square().mean(0))
