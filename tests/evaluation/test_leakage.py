"""What can be read from points, and how labels mix."""

from __future__ import annotations

import numpy as np
import pytest

from genevae.evaluation.leakage import chance, local_mixing, readable

RNG = np.random.default_rng(0)
LABELS = np.repeat(["a", "b", "c"], [60, 50, 40])


@pytest.mark.parametrize("reader", ["logistic", "neighbours"])
def test_noise_tells_no_more_than_chance_and_the_label_itself_tells_all(reader):
    noise = RNG.normal(size=(150, 3))
    assert readable(noise, LABELS, reader) < chance(LABELS) + 0.12
    told = noise + 20 * (LABELS[:, None] == np.array(["a", "b", "c"]))
    assert readable(told, LABELS, reader) == 1


def test_neighbours_read_a_ring_that_no_line_can():
    angle, inside = RNG.uniform(0, 2 * np.pi, 300), np.arange(300) % 2
    ring = (1 + 2 * inside)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    assert readable(ring, inside, "neighbours") == 1
    assert readable(ring, inside, "logistic") < 0.7


def test_mixing_goes_from_one_to_the_number_of_labels():
    apart = RNG.normal(size=(300, 2)) + 100 * (np.arange(300) % 3)[:, None]
    assert local_mixing(apart, np.arange(300) % 3) == pytest.approx(1)
    assert 2.6 < local_mixing(RNG.normal(size=(600, 2)), np.arange(600) % 3) <= 3
