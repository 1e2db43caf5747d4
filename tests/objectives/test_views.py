"""Thinned views: what thinning keeps, when two views are redundant, and what the loss adds to another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genevae.cells import ExpressionRows
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Progress
from genevae.objectives.schedules import Ramp
from genevae.objectives.views import ThinnedViews, redundancy, thin
from genevae.recipes.nb import NB

SEEDS = st.integers(0, 99)


@given(share=st.floats(0, 1), seed=SEEDS, stored=st.booleans())
def test_a_thinned_cell_has_whole_counts_and_none_more_than_before(make_cells, share, seed, stored):
    cells = make_cells(seed=seed, stored=stored)
    before = cells.x.dense().clone()
    kept = thin(cells, torch.full((cells.n_cells, 1), share)).x.dense()
    assert torch.equal(kept, kept.round())
    assert bool(((kept >= 0) & (kept <= before)).all())
    assert torch.equal(cells.x.dense(), before)


def test_each_cell_keeps_its_share_and_all_or_nothing_at_the_ends(make_cells):
    x = torch.full((4, 500), 20.0)
    cells = replace(make_cells(4), x=ExpressionRows.from_dense(x))
    torch.manual_seed(0)
    kept = thin(cells, torch.tensor([[0.0], [0.25], [0.75], [1.0]])).x.dense()
    assert kept[0].sum() == 0
    assert torch.equal(kept[3], x[3])
    # counts are binomial: their mean is n·p, their variance n·p·(1 − p)
    for row, share in ((1, 0.25), (2, 0.75)):
        assert kept[row].mean().item() == pytest.approx(20 * share, abs=0.5)
        assert kept[row].var().item() == pytest.approx(20 * share * (1 - share), rel=0.25)


@given(seed=SEEDS, stored=st.booleans())
def test_stored_and_dense_rows_are_thinned_alike(make_cells, seed, stored):
    results = []
    for each in (stored, not stored):
        cells = make_cells(seed=seed, stored=each)
        torch.manual_seed(seed)
        results.append(thin(cells, torch.full((cells.n_cells, 1), 0.5)).x.dense())
    assert torch.equal(*results)


@given(seed=SEEDS, k=st.integers(1, 5))
def test_redundancy_is_zero_for_equal_views_of_uncorrelated_dimensions_and_blind_to_scale(seed, k):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(50, k, generator=generator, dtype=torch.float64)
    orthogonal, _ = torch.linalg.qr(z - z.mean(0))
    white = (orthogonal - orthogonal.mean(0)) * 100
    assert redundancy(white, white).item() == pytest.approx(0, abs=1e-4)
    assert redundancy(white, 3 * white + 1).item() == pytest.approx(0, abs=1e-4)
    assert redundancy(white, -white).item() == pytest.approx(4 * k, rel=1e-3)
    torch.testing.assert_close(redundancy(z, z.flip(0)), redundancy(z.flip(0), z))


def test_redundancy_is_the_formula_of_the_paper():
    a, b = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c = torch.corrcoef(torch.cat([a, b], 1).T)[:3, 3:]
    expected = (1 - c.diag()).square().sum() + 0.01 * (c - torch.diag(c.diag())).square().sum()
    assert redundancy(a, b).item() == pytest.approx(expected.item(), rel=1e-3)


def model_of():
    torch.manual_seed(0)
    settings = {"n_latent": 2, "hidden": (8,), "dropout": 0.0, "norm": "layer"}
    return NB.edit(settings).build(Schema(tuple("abcdefg"), Kind.COUNTS))


@settings(max_examples=10)
@given(weight=st.floats(0, 200), seed=SEEDS)
def test_the_loss_is_that_of_the_base_and_the_weighted_redundancy(make_cells, weight, seed):
    model, cells = model_of(), make_cells()
    torch.manual_seed(seed)
    base = ELBO()(model, cells)
    torch.manual_seed(seed)
    loss = ThinnedViews(ELBO(), weight)(model, cells)
    assert loss.total.item() == pytest.approx(base.total.item() + weight * loss.terms["views"].item(), rel=1e-5)
    assert {name: loss.terms[name] for name in base.terms} == base.terms


def test_training_makes_the_views_agree(make_cells):
    cells = make_cells(60)
    rate_cg = 20 * torch.rand(3, 7, generator=torch.Generator().manual_seed(0))
    x_ng = torch.poisson(rate_cg[cells.condition.codes["type"]], generator=torch.Generator().manual_seed(1))
    cells = replace(cells, x=ExpressionRows.from_dense(x_ng))

    def views(weight: float) -> float:
        model, objective = model_of(), ThinnedViews(ELBO(), weight)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        torch.manual_seed(1)
        found = []
        for _ in range(40):
            optimizer.zero_grad()
            loss = objective(model, cells)
            loss.total.backward()
            optimizer.step()
            found.append(loss.terms["views"].item())
        return sum(found[-10:]) / 10

    assert views(100.0) < 0.5 * views(0.0)


def test_it_settles_with_its_base():
    objective = ThinnedViews(ELBO(Ramp(1.0, 0.5)), 1.0)
    assert [objective.settled(Progress(step, 100)) for step in (10, 60)] == [False, True]
