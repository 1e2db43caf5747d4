"""Decoding any place of the latent, in any condition."""

from __future__ import annotations

import numpy as np
import pytest

import genevae as gv
from genevae.errors import CategoryError, DataError

GIVEN = {"type": "A", "drug": "stim", "lane": "l1"}


def latents(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)


def test_it_is_the_mean_that_the_likelihood_has(tiny_model: gv.Trained) -> None:
    table = gv.decode(tiny_model, latents(), GIVEN)
    assert list(table) == list(tiny_model.schema.genes)
    np.testing.assert_allclose(table.sum(axis=1), 1e4, rtol=1e-4)
    np.testing.assert_allclose(gv.decode(tiny_model, latents(), GIVEN, size=500), table / 20, rtol=1e-5)


def test_each_row_may_have_a_condition_of_its_own(tiny_model: gv.Trained) -> None:
    several = gv.decode(tiny_model, latents(), {**GIVEN, "type": list("ABCAB")})
    for row, kind in enumerate("ABCAB"):
        alone = gv.decode(tiny_model, latents()[[row]], {**GIVEN, "type": kind})
        np.testing.assert_allclose(several.iloc[[row]], alone, rtol=1e-5)


def test_rows_do_not_depend_on_each_other_nor_on_their_number(tiny_model: gv.Trained) -> None:
    many = np.tile(latents(), (500, 1))
    found = gv.decode(tiny_model, many, GIVEN).to_numpy()
    np.testing.assert_allclose(found[2000:2005], found[:5], rtol=1e-5)
    assert gv.decode(tiny_model, many[:0], GIVEN).shape == (0, 30)


@pytest.mark.parametrize(
    ("given", "z", "error", "said"),
    [
        ({"type": "A"}, latents(), CategoryError, "value of 'drug' too"),
        ({**GIVEN, "drug": "stum"}, latents(), CategoryError, "Did you mean 'stim'"),
        ({**GIVEN, "type": ["A", "B"]}, latents(), DataError, "'type' has 2 values for 5 rows"),
        (GIVEN, latents()[:, :3], DataError, r"4 latent dimensions of this model, not of shape \(5, 3\)"),
        (GIVEN, latents() * np.nan, DataError, "missing or infinite"),
    ],
)
def test_mistakes_are_named(tiny_model: gv.Trained, given, z, error, said: str) -> None:
    with pytest.raises(error, match=said):
        gv.decode(tiny_model, z, given)
