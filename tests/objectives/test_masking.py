"""What is hidden in training: genes from the posterior, categories from all of the model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genevae.data.schema import Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.objectives.elbo import ELBO
from genevae.objectives.masking import CategoryDropout, GeneMask, mask_genes
from genevae.recipes.nb import NB

TYPE = Categorical("type", ("a", "b", "c"), unknown=True)
SCHEMA = Schema(tuple("abcdefg"), Kind.COUNTS, categorical=(TYPE,), missing=True)


@pytest.mark.parametrize("stored", [True, False])
@given(share=st.floats(0, 1), seed=st.integers(0, 99))
def test_what_is_hidden_is_zero_and_counts_as_not_measured(make_cells, stored, share, seed):
    torch.manual_seed(seed)
    cells = make_cells(30, stored=stored)
    hidden = mask_genes(cells, share)
    kept = hidden.condition.measured_ng
    assert torch.equal(hidden.x.dense(), cells.x.dense() * kept)
    assert abs((~kept).float().mean() - share) < 0.2


def test_nothing_and_everything_can_be_hidden(make_cells):
    cells = make_cells()
    assert mask_genes(cells, 0.0).condition.measured_ng.all()
    assert not mask_genes(cells, 1.0).condition.measured_ng.any()


def test_a_mask_draws_its_share_between_its_limits(make_cells):
    torch.manual_seed(0)
    cells = make_cells(400, 50)
    shares = [float((~GeneMask(0.05, 0.25)(cells).condition.measured_ng).float().mean()) for _ in range(200)]
    assert 0.04 < min(shares) < 0.07
    assert 0.23 < max(shares) < 0.26
    assert abs(sum(shares) / 200 - 0.15) < 0.02
    assert GeneMask(0.05, 0.25).middle == pytest.approx(0.15)


@given(st.floats(0, 1))
def test_categories_are_forgotten_at_their_share_and_never_changed(make_cells, share):
    torch.manual_seed(0)
    cells = make_cells(600)
    found = CategoryDropout(share, {"type": 3})(cells).condition.codes
    forgotten = found["type"] == 3
    assert abs(forgotten.float().mean() - share) < 0.08
    assert torch.equal(found["type"][~forgotten], cells.condition.codes["type"][~forgotten])
    assert torch.equal(found["lane"], cells.condition.codes["lane"])


def test_the_bound_asks_for_all_entries_back(make_cells):
    torch.manual_seed(0)
    model = NB.edit({"n_latent": 2, "hidden": (8,), "dropout": 0.0}).build(SCHEMA).eval()
    cells = make_cells()
    noise = torch.randn(1, 12, 2)
    hidden = model.terms(cells, noise_snk=noise, seen=mask_genes(cells, 0.5))
    whole = model.terms(cells, noise_snk=noise)
    assert not torch.equal(hidden.z_snk, whole.z_snk)
    p = model.likelihood(hidden.z_snk, cells.condition)
    torch.testing.assert_close(hidden.log_px_sn, p.log_prob_n(cells.x))


def test_validation_reports_whole_and_masked_cells(make_cells):
    torch.manual_seed(0)
    model = NB.edit({"n_latent": 2, "hidden": (8,)}).build(SCHEMA)
    objective = ELBO(mask=GeneMask())
    assert set(objective(model, make_cells()).terms) == {"reconstruction", "kl"}
    objective.eval()
    terms = objective(model.eval(), make_cells()).terms
    assert set(terms) == {"reconstruction", "kl", "mse", "reconstruction_fixed_mask", "reconstruction_dynamic_mask"}
