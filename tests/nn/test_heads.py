"""The laws of additive heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from genevae.cells import ExpressionRows
from genevae.nn.heads import AdditiveHeads, CategoryNetworks, TiedBase, non_negative

N, G = 12, 7
CATEGORIES = {"type": 3, "lane": 2}


def heads(hidden=(4,), activation=nn.ReLU, **options) -> AdditiveHeads:
    torch.manual_seed(0)
    return AdditiveHeads(G, CATEGORIES, 5, hidden, activation, **options)


def looped(networks: CategoryNetworks, h_nh, code_n):
    """Go through the categories one by one: the plain form."""
    out = torch.zeros(len(h_nh), networks.free[-1].shape[-1])
    for category in range(networks.n_categories):
        here = code_n == category
        h = h_nh[here]
        for free_chk in networks.free:
            h = networks.activation(h @ non_negative(free_chk[category]))
        out[here] = h
    return out


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.SiLU])
@pytest.mark.parametrize("widths", [(4, 4), (4, 6, 2)])
def test_a_whole_minibatch_goes_where_a_loop_over_categories_takes_it(widths, activation):
    torch.manual_seed(0)
    networks = CategoryNetworks(5, widths, activation)
    h_nh, code_n = torch.rand(40, widths[0]), torch.randint(6, (40,))
    grads = []
    for out in (networks(h_nh, code_n), looped(networks, h_nh, code_n)):
        networks.zero_grad()
        out.square().sum().backward()
        grads.append([out.detach(), *(free.grad.clone() for free in networks.free)])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_any_number_of_draws_goes_through_the_networks_at_once():
    networks = CategoryNetworks(3, (4, 2), nn.ReLU)
    h_snh, code_n = torch.rand(2, 3, 10, 4), torch.randint(3, (10,))
    each = torch.stack([torch.stack([networks(h, code_n) for h in draws]) for draws in h_snh])
    torch.testing.assert_close(networks(h_snh, code_n), each)


@pytest.mark.parametrize("options", [{}, {"hidden": (4, 3)}, {"activation": nn.Tanh}, {"scale": 0.5}])
def test_the_sum_of_the_heads_is_the_output(options, make_cells):
    model, cells = heads(**options), make_cells(N, G)
    codes = cells.condition.codes
    z = model.encode(cells.x, codes)
    added = model.contributions(z, codes)
    assert list(added) == ["base", "type", "lane"]
    torch.testing.assert_close(sum(added.values()), model.decode(z, codes))
    assert all((each >= 0).all() and (each > 0).any() for each in added.values())


def test_the_base_is_tied_and_stays_so(make_cells):
    model, cells = heads(), make_cells(N, G)
    model.base.free_unit_gh.data.normal_()
    z = model.encode(cells.x, cells.condition.codes)
    w_gk = model.base.weight_gh
    torch.testing.assert_close(z[:, :5], cells.x.dense() @ w_gk)
    base = model.contributions(z, cells.condition.codes)["base"]
    torch.testing.assert_close(base, cells.x.dense() @ w_gk @ w_gk.T)


def test_weights_start_non_negative_with_columns_of_one_length():
    model = heads()
    for weight in (*model.parameters(), model.first_layer(), model.last_layer()):
        assert (weight >= 0).all()
    for head in model.heads:
        for weight in (head.read_gh, head.write_gh, *head.encode_hidden.free, *head.decode_hidden.free):
            torch.testing.assert_close(weight.norm(dim=-2), torch.ones_like(weight.norm(dim=-2)))
    torch.testing.assert_close(model.base.weight_gh.norm(dim=0), torch.full((5,), 5**-0.5))


def test_a_former_state_of_the_base_loads_as_the_same_weights():
    base = TiedBase(G, 5)
    former = torch.rand(G, 5)
    base.load_state_dict({"free_gh": former})
    torch.testing.assert_close(base.weight_gh, former)


def test_networks_of_a_former_state_load_under_their_names():
    model = heads()
    state = {
        name.replace("encode_hidden", "inwards").replace("decode_hidden", "outwards"): torch.rand_like(tensor)
        for name, tensor in model.state_dict().items()
    }
    former = dict(state)
    model.load_state_dict(state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(
            tensor, former[name.replace("encode_hidden", "inwards").replace("decode_hidden", "outwards")]
        )


def test_sparse_and_dense_rows_are_read_alike(make_cells):
    model, cells = heads(), make_cells(N, G)
    codes = cells.condition.codes
    dense = ExpressionRows.from_dense(cells.x.dense())
    torch.testing.assert_close(model.encode(cells.x, codes), model.encode(dense, codes))


def test_permuting_cells_permutes_the_output(make_cells):
    model, cells = heads(), make_cells(N, G)
    order = torch.randperm(N)
    x, codes = cells.x.dense(), cells.condition.codes
    shuffled = {name: code_n[order] for name, code_n in codes.items()}
    one = model.decode(model.encode(cells.x, codes), codes)
    other = model.decode(model.encode(ExpressionRows.from_dense(x[order]), shuffled), shuffled)
    torch.testing.assert_close(other, one[order])


@pytest.mark.parametrize("field", CATEGORIES)
def test_a_missing_category_adds_nothing_whether_at_the_source_or_at_the_target(field, make_cells):
    model, cells = heads(scale=1.0), make_cells(N, G)
    known = cells.condition.codes
    unknown = {**known, field: torch.full((N,), CATEGORIES[field])}
    for source, target in ((unknown, unknown), (unknown, known), (known, unknown)):
        added = model.contributions(model.encode(cells.x, source), target)
        assert (added[field] == 0).all()
        assert all((added[other] > 0).any() for other in added if other != field)


def test_a_scale_can_be_learned_or_fitted(make_cells):
    cells = make_cells(N, G)
    codes = cells.condition.codes
    assert "free_scale" in dict(heads(scaling="learned").named_parameters())
    assert "free_scale" not in dict(heads().named_parameters())
    fitted = heads(scaling="fitted")
    fitted.fit_scale(cells.x, codes)
    base, *rest = fitted.contributions(fitted.encode(cells.x, codes), codes).values()
    torch.testing.assert_close(sum(rest).norm(), base.norm())


def test_every_weight_is_used(make_cells):
    model, cells = heads(scaling="learned"), make_cells(40, G)
    codes = cells.condition.codes
    model.decode(model.encode(cells.x, codes), codes).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs() > 0).any(), name


def test_without_fields_there_is_the_base_alone(make_cells):
    model, cells = AdditiveHeads(G, {}, 5, (4,), nn.ReLU), make_cells(N, G)
    w_gk = model.base.weight_gh
    expected = linear(cells.x.dense() @ w_gk, w_gk)
    torch.testing.assert_close(model.decode(model.encode(cells.x, {}), {}), expected)
