"""Counts as numbers from nought to one and back, and the order of genes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genevae.cells import Cells, Condition, ExpressionRows
from genevae.data.transforms.from_json import transform_from_json
from genevae.data.transforms.gene_order import ORDERS, Ordered, _moments, order_by_similarity
from genevae.data.transforms.minmax import ScaleToUnit, sample_multinomial
from genevae.data.transforms.transform import AsIs, LogNormalise
from genevae.data.value_kind import Kind
from genevae.distributions import Normal
from genevae.errors import DataError


def cells_of(x_ng: torch.Tensor) -> Cells:
    return Cells(
        ExpressionRows.from_dense(x_ng), Condition(x_ng.sum(-1, keepdim=True).clamp(min=1)), torch.arange(len(x_ng))
    )


def test_counts_become_numbers_from_nought_to_one_and_come_back_exactly(make_cells):
    cells = [make_cells(40, seed=1), make_cells(25, seed=2)]
    fitted = ScaleToUnit().fit(cells)
    seen = torch.cat([fitted.apply(each.x, each.condition.size_n1).dense() for each in cells])
    assert seen.min() == 0
    assert (seen.amax(0) == 1).all()
    size_n1 = torch.cat([each.condition.size_n1 for each in cells])
    counts = torch.cat([each.x.dense() for each in cells])
    torch.testing.assert_close(fitted.invert(seen, size_n1), counts, rtol=1e-6, atol=1e-6)
    assert torch.equal(fitted.invert(seen, size_n1).round(), counts)
    assert (fitted.kind(Kind.COUNTS), fitted.output_kind(Kind.COUNTS)) == (Kind.SCALED, Kind.COUNTS)


def test_a_gene_that_no_training_cell_has_does_not_swallow_the_others():
    fitted = ScaleToUnit().fit([cells_of(torch.tensor([[1.0, 0.0, 3.0], [2.0, 0.0, 2.0]]))])
    torch.testing.assert_close(fitted.highest_g, torch.tensor([0.5, 0.5, 0.75]))


@pytest.mark.parametrize(
    "inner", [AsIs(), LogNormalise(), ScaleToUnit(torch.tensor([0.5, 0.1, 0.2, 1, 1, 1, 1]))], ids=repr
)
def test_an_order_changes_no_number_and_survives_json(inner, make_cells):
    cells = make_cells(20, stored=False)
    fitted = Ordered(inner, "expression").fit([cells])
    again = transform_from_json(json.loads(json.dumps(fitted.to_json())))
    size_n1 = cells.condition.size_n1
    alone = inner.fit([cells])
    for each in (fitted, again):
        seen = each.apply(cells.x, size_n1).dense()
        torch.testing.assert_close(seen, alone.apply(cells.x, size_n1).dense())
        torch.testing.assert_close(each.invert(seen, size_n1), alone.invert(seen, size_n1))
        assert (each.kind(Kind.COUNTS), each.output_kind(Kind.COUNTS)) == (
            alone.kind(Kind.COUNTS), alone.output_kind(Kind.COUNTS),
        )  # fmt: skip
    assert torch.equal(again.order_g, fitted.order_g)
    assert sorted(fitted.order_g.tolist()) == list(range(7))


def test_genes_in_order_of_expression_fall_in_mean():
    x = torch.tensor([[1.0, 5.0, 3.0], [2.0, 6.0, 0.0]])
    assert ORDERS["expression"]([cells_of(x)]).tolist() == [1, 0, 2]


def test_genes_of_one_programme_are_neighbours_wherever_they_were_given():
    rng = np.random.default_rng(0)
    programme_g = rng.permutation(np.repeat(np.arange(4), 16))
    level_np = rng.lognormal(0, 1, (300, 4))
    x = torch.from_numpy(rng.poisson(5 * level_np[:, programme_g]).astype(np.float32))
    order = ORDERS["correlation"]([cells_of(x[:200]), cells_of(x[200:])])
    assert sorted(order) == list(range(64))
    changes = np.count_nonzero(np.diff(programme_g[order]))
    assert changes <= 8  # of 63; 47 in a random order, 3 at best


@given(st.permutations(range(33)))
def test_points_on_a_line_are_put_in_order(shuffled):
    points = np.array(shuffled, dtype=np.float64)[:, None] * [[1.0, 2.0]]
    along = points[order_by_similarity(points), 0]
    assert (np.diff(along) > 0).all() or (np.diff(along) < 0).all()


def test_an_order_that_is_none_is_an_error_with_the_nearest():
    with pytest.raises(DataError, match="Did you mean 'correlation'"):
        Ordered(AsIs(), "corelation")


def test_counts_shared_out_sum_to_each_size_and_follow_what_is_expected():
    torch.manual_seed(0)
    expected = torch.tensor([[1.0, 3.0, 0.0, 4.0]]).expand(2000, 4)
    size_n1 = torch.randint(1, 200, (2000, 1)).float()
    counts = sample_multinomial(expected, size_n1)
    assert torch.equal(counts.sum(-1, keepdim=True), size_n1)
    assert (counts[:, 2] == 0).all()
    torch.testing.assert_close(counts.sum(0) / counts.sum(), expected[0] / 8, atol=0.005, rtol=0)
    standard = (counts - size_n1 * expected / 8) / (size_n1 * expected / 8 * (1 - expected / 8)).sqrt()
    assert standard[:, [0, 1, 3]].var(0).sub(1).abs().max() < 0.12  # multinomial, no more and no less


def test_draws_are_counts_for_squared_error_and_draws_of_the_distribution_elsewhere():
    p = Normal(torch.full((3, 2), 0.5), torch.tensor(0.7))
    size_n1 = torch.tensor([[10.0], [20.0], [30.0]])
    counts = ScaleToUnit(torch.tensor([0.5, 0.25])).draw(p, size_n1)
    assert torch.equal(counts.sum(-1, keepdim=True), size_n1)
    torch.manual_seed(1)
    drawn = LogNormalise().draw(p, size_n1)
    torch.manual_seed(1)
    assert torch.equal(drawn, p.sample())


def test_moments_are_those_of_all_cells_together(make_cells):
    parts = [make_cells(7), make_cells(5)]
    x_ng = np.concatenate([
        LogNormalise().apply(cells.x, cells.condition.size_n1).dense().double().numpy() for cells in parts
    ])  # fmt: skip
    mean_g, scale_g = _moments(parts)
    np.testing.assert_allclose(mean_g, x_ng.mean(0))
    np.testing.assert_allclose(scale_g, np.where(x_ng.std(0) > 1e-6, x_ng.std(0), 1.0), rtol=1e-6)
