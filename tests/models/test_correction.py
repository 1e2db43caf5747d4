"""The correction of a latent: laws of the ridge, of cells that it does not cover, and what it does to batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from genevae.models import correction as module
from genevae.models.correction import Correction

SEEDS = st.integers(0, 20)


def types_in_batches(n: int = 400, shift: float = 0.8, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of four types in three batches, whose offset differs by type: latents, types, batches."""
    generator = torch.Generator().manual_seed(seed)
    kind_n, batch_n = torch.randint(4, (n,), generator=generator), torch.randint(3, (n,), generator=generator)
    centre = 4 * torch.nn.functional.one_hot(torch.arange(4), 5).float()
    offset = shift * torch.randn(4, 3, 5, generator=generator)
    z = centre[kind_n] + offset[kind_n, batch_n] + 0.3 * torch.randn(n, 5, generator=generator)
    return z, kind_n, batch_n


def spread(z: Tensor, kind_n: Tensor, batch_n: Tensor) -> float:
    """The mean distance between the batches' means of one type."""
    means = torch.stack([torch.stack([z[(kind_n == t) & (batch_n == b)].mean(0) for b in range(3)]) for t in range(4)])
    return float((means - means.mean(1, keepdim=True)).norm(dim=-1).mean())


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_offsets_that_differ_by_type_are_removed_and_types_stay_apart(seed):
    z, kind_n, batch_n = types_in_batches(seed=seed)
    correction = Correction.fit(z, batch_n, 3)
    assert correction is not None
    after = correction(z, batch_n)
    assert spread(after, kind_n, batch_n) < 0.5 * spread(z, kind_n, batch_n)
    means = torch.stack([after[kind_n == t].mean(0) for t in range(4)])
    assert float(torch.pdist(means).min()) > 2.0


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_new_cells_are_corrected_as_those_it_was_fitted_to(seed):
    z, kind_n, batch_n = types_in_batches(800, seed=seed)
    correction = Correction.fit(z[:400], batch_n[:400], 3)
    assert correction is not None
    new = correction(z, batch_n)[400:]
    assert spread(new, kind_n[400:], batch_n[400:]) < 0.6 * spread(z[400:], kind_n[400:], batch_n[400:])
    # one by one and in any order, as a function of the cell
    torch.testing.assert_close(correction(z[400:].flip(0), batch_n[400:].flip(0)).flip(0), new)
    torch.testing.assert_close(correction(z[400:401], batch_n[400:401]), new[:1])


def test_batches_without_cells_are_not_corrected_nor_counted():
    z, _, batch_n = types_in_batches()
    unknown_n = batch_n.clone()
    unknown_n[:50] = 4  # the code of the unknown batch, where 0 to 3 are known and none is of 3
    correction = Correction.fit(z, unknown_n, 4)
    assert correction is not None
    assert correction.known_b.tolist() == [True, True, True, False]
    code_n = torch.tensor([0, 3, 4])
    assert correction.covers(code_n).tolist() == [True, False, False]
    after = correction(z[:3], code_n)
    assert torch.equal(after[1:], z[1:3])
    assert not torch.equal(after[0], z[0])
    without = Correction.fit(z[50:], batch_n[50:], 4)
    assert without is not None
    for name, tensor in without.to_tensors().items():
        assert torch.equal(correction.to_tensors()[name], tensor), name


def test_there_is_none_for_one_batch_or_hardly_any_cells():
    z, _, batch_n = types_in_batches()
    assert Correction.fit(z, torch.zeros_like(batch_n), 3) is None
    assert Correction.fit(z[:20], batch_n[:20], 3) is None
    assert Correction.fit(z, torch.full_like(batch_n, 3), 3) is None


def test_equal_cells_are_no_error():
    _, _, batch_n = types_in_batches()
    z = torch.ones(len(batch_n), 2)
    correction = Correction.fit(z, batch_n, 3)
    assert correction is not None
    assert torch.equal(correction(z, batch_n), z)


@given(SEEDS)
def test_offsets_are_those_of_a_ridge_regression_on_the_batch(seed):
    z, _, batch_n = types_in_batches(60, seed=seed)
    weight_n = torch.rand(60, generator=torch.Generator().manual_seed(seed)).double()
    centre_ck, offset_cbk = module._ridge(z.double(), weight_n[:, None], batch_n, 3)
    one_hot = np.eye(3)[batch_n.numpy()]
    oracle = Ridge(alpha=module.RIDGE).fit(one_hot, z.numpy().astype(float), sample_weight=weight_n.numpy())
    np.testing.assert_allclose(centre_ck[0], oracle.intercept_, atol=1e-8)
    np.testing.assert_allclose(offset_cbk[0], oracle.coef_.T, atol=1e-8)


def test_the_same_seed_gives_the_same_bits_and_files_keep_them():
    z, _, batch_n = types_in_batches()
    first, second = (Correction.fit(z, batch_n, 3) for _ in range(2))
    assert first is not None
    assert second is not None
    restored = Correction.from_tensors(first.to_tensors(), 3, 5)
    assert torch.equal(first(z, batch_n), second(z, batch_n))
    assert torch.equal(first(z, batch_n), restored(z, batch_n))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {**t, "offset_cbk": t["offset_cbk"][:, :2]},
        lambda t: {**t, "centre_ck": t["centre_ck"] * torch.nan},
        lambda t: {name: tensor for name, tensor in t.items() if name != "middle_k"},
    ],
)
def test_tensors_that_do_not_fit_are_an_error(change):
    z, _, batch_n = types_in_batches()
    correction = Correction.fit(z, batch_n, 3)
    assert correction is not None
    with pytest.raises(ValueError, match="correction of the latent"):
        Correction.from_tensors(change(correction.to_tensors()), 3, 5)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_a_further_batch_is_corrected_and_those_before_stay_to_the_bit(seed):
    z, kind_n, batch_n = types_in_batches(800, seed=seed)
    known_n = batch_n < 2
    correction = Correction.fit(z[known_n], batch_n[known_n], 2)
    assert correction is not None
    further = correction.with_batches(z, batch_n, 3)
    assert torch.equal(further(z[known_n], batch_n[known_n]), correction(z[known_n], batch_n[known_n]))
    assert further.known_b.tolist() == [True, True, True]
    without = torch.where(known_n[:, None], correction(z, batch_n), z)
    assert spread(further(z, batch_n), kind_n, batch_n) < 0.8 * spread(without, kind_n, batch_n)
