"""Multilayer perceptrons, and conditions as vectors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genevae.cells import Condition
from genevae.nn.conditioning import Conditioning, embedding_width
from genevae.nn.mlp import ACTIVATIONS, MLP, NORMS, LayerStyle


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_leading_axes_are_flattened_and_put_back(norm, activation):
    mlp = MLP(4, [6, 5], LayerStyle(NORMS[norm], ACTIVATIONS[activation], dropout=0.0))
    x = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    h = mlp(x)
    assert h.shape == (3, 7, 5)
    mlp.eval()
    torch.testing.assert_close(mlp(x), torch.stack([mlp(each) for each in x]), rtol=1e-5, atol=1e-6)


def test_batch_norm_counts_particles_as_cells():
    mlp = MLP(4, [3], LayerStyle(dropout=0.0))
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mlp(x), mlp(x.view(10, 4)).view(2, 5, 3))


def test_no_layer_passes_the_input_on():
    mlp, x = MLP(4, [], LayerStyle()), torch.randn(2, 4)
    assert torch.equal(mlp(x), x)
    assert mlp.n_out == 4


def test_dropout_hides_its_share_in_training_only():
    style = LayerStyle(NORMS["none"], ACTIVATIONS["relu"], dropout=0.3)
    layer, x = style.after(1000), torch.ones(20, 1000)
    torch.manual_seed(0)
    assert (layer(x) == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(layer.eval()(x), x)


@given(st.lists(st.integers(1, 40), max_size=4), st.lists(st.integers(1, 9), max_size=4), st.integers(0, 3))
def test_a_condition_has_the_widths_that_were_asked_for_then_one_per_category_up_to_sixteen(numbers, widths, n_doses):
    names = [f"f{i}" for i in range(len(numbers))]
    doses = [f"d{i}" for i in range(n_doses)]
    conditioning = Conditioning(dict(zip(names, numbers, strict=True)), doses, widths)
    each = [widths[i] if i < len(widths) else min(n, 16) for i, n in enumerate(numbers)]
    assert conditioning.n_out == sum(each) + n_doses
    condition = Condition(
        torch.ones(5, 1),
        {name: torch.full((5,), n - 1) for name, n in zip(names, numbers, strict=True)},
        {dose: torch.arange(5.0) for dose in doses},
    )
    vector = conditioning(condition)
    assert vector.shape == (5, conditioning.n_out)
    if n_doses:
        assert torch.equal(vector[:, -1], torch.arange(5.0))


def test_each_category_has_a_vector_of_its_own_and_fields_stand_in_their_order(make_cells):
    condition = make_cells(12).condition
    conditioning = Conditioning({"type": 3, "lane": 2}, ["dose"])
    vector = conditioning(condition)
    for name, at in (("type", slice(0, 3)), ("lane", slice(3, 5))):
        table = conditioning.embeddings[0 if name == "type" else 1].weight
        assert torch.equal(vector[:, at], table[condition.codes[name]])
    assert torch.equal(vector[:, 5], condition.values["dose"])


def test_without_fields_a_condition_is_empty():
    assert Conditioning({})(Condition(torch.ones(4, 1))).shape == (4, 0)


def test_embedding_width_stops_at_sixteen():
    assert [embedding_width(n) for n in (1, 16, 17, 1000)] == [1, 16, 16, 16]
