"""The ELBO as a loss: its weights, its terms, and when it has settled."""

from __future__ import annotations

import pytest
import torch

from genevae.data.schema import Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Progress
from genevae.objectives.schedules import Constant, Cyclic, Ramp
from genevae.recipes.nb import NB


@pytest.fixture
def model():
    torch.manual_seed(0)
    schema = Schema(tuple("abcdefg"), Kind.COUNTS, categorical=(Categorical("type", ("a", "b", "c")),))
    return NB.edit({"n_latent": 2, "hidden": (8,), "dropout": 0.0}).build(schema).eval()


def loss_of(objective: ELBO, model, cells, progress: Progress | None = None):
    torch.manual_seed(1)
    return objective(model, cells, progress)


def test_at_beta_one_the_loss_is_minus_the_mean_bound(model, make_cells):
    cells = make_cells()
    loss = loss_of(ELBO(), model, cells)
    torch.manual_seed(1)
    torch.testing.assert_close(loss.total, -model.bound_n(cells).mean())


def test_without_progress_every_weight_is_at_its_target(model, make_cells):
    cells = make_cells()
    at_target = loss_of(ELBO(Constant(0.3)), model, cells)
    ramp = ELBO(Ramp(0.3, 0.5))
    assert torch.equal(loss_of(ramp, model, cells).total, at_target.total)
    assert torch.equal(loss_of(ramp, model, cells, Progress(99, 100)).total, at_target.total)
    assert loss_of(ramp, model, cells, Progress(0, 100)).total < at_target.total


@pytest.mark.parametrize(("beta", "weight"), [(0.0, 1.0), (2.0, 1.0), (1.0, 0.0), (0.5, 3.0)])
def test_the_total_is_the_weighted_sum_of_the_named_terms(model, make_cells, beta, weight):
    loss = loss_of(ELBO(Constant(beta), weight), model, make_cells())
    expected = weight * loss.terms["reconstruction"] + beta * loss.terms["kl"]
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.per_cell_n.mean(), loss.total)
    assert loss.per_cell_n.shape == (12,)


def test_terms_carry_no_gradient_and_the_total_does(model, make_cells):
    loss = loss_of(ELBO(), model, make_cells())
    assert loss.total.requires_grad
    assert not any(term.requires_grad for term in (*loss.terms.values(), loss.per_cell_n))


def test_more_particles_leave_the_expected_bound_and_lower_its_noise(model, make_cells):
    cells = make_cells()
    torch.manual_seed(0)
    with torch.no_grad():
        one, many = (torch.stack([model.bound_n(cells, n).mean() for _ in range(200)]) for n in (1, 16))
    assert many.std() < one.std() / 2
    assert abs(one.mean() - many.mean()) < 5 * one.std() / 200**0.5


def test_it_has_settled_once_beta_has_reached_its_target():
    ramp = ELBO(Ramp(1.0, 0.5))
    assert not ramp.settled(Progress(49, 100))
    assert ramp.settled(Progress(50, 100))
    assert ELBO().settled(Progress(0, 100))


def test_it_has_settled_on_every_peak_of_a_cycle_and_not_between():
    cyclic = ELBO(Cyclic(0.1, cycle=5, n_epochs=10, decay=0.5))
    assert [cyclic.settled(Progress(step, 100)) for step in (0, 5, 25, 49, 50, 60, 75, 100)] == [
        False, False, True, True, False, False, True, True,
    ]  # fmt: skip


def test_the_squared_error_is_of_measured_entries_alone(model, make_cells):
    cells = make_cells(6)
    measured_ng = torch.rand(6, cells.x.n_genes, generator=torch.Generator().manual_seed(0)) < 0.6
    partly = cells.given(cells.condition.with_measured(measured_ng))
    objective, terms = ELBO(Constant(1.0)), model.eval().terms(cells)
    square_ng = (cells.x.dense() - terms.px.mean.mean(0)).square()
    torch.testing.assert_close(objective.mse(partly, terms), square_ng[measured_ng].mean())
    torch.testing.assert_close(objective.mse(cells, terms), square_ng.mean())
