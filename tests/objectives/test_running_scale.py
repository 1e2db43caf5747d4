"""The running scale: an average over all steps at first, and over recent ones later."""

from __future__ import annotations

import pytest
import torch

from genevae.objectives.running_scale import RunningScale


def test_a_few_steps_are_averaged_alike() -> None:
    scale = RunningScale()
    for value in (1.0, 2.0, 6.0):
        scale(torch.full((4,), value))
    assert scale.scale.item() == pytest.approx(3.0)


def test_after_many_steps_the_past_is_forgotten() -> None:
    scale = RunningScale()
    for _ in range(400):
        scale(torch.full((4,), 10.0))
    for _ in range(100):
        scale(torch.full((4,), 5.0))
    assert scale.scale.item() == pytest.approx(5 + 5 * 0.99**100, rel=1e-3)
