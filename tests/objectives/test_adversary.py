"""The adversary: who is given which gradient, and what the total says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from genevae.cells import ExpressionRows
from genevae.data.schema import Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError
from genevae.objectives.adversary import Adversary, Discriminator, classification
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Progress
from genevae.objectives.schedules import Constant, Ramp
from genevae.recipes.adversarial import ADVERSARIAL
from genevae.recipes.nb import NB

SCHEMA = Schema(
    tuple("abcdefg"), Kind.COUNTS,
    categorical=(Categorical("type", ("a", "b", "c")), Categorical("lane", ("x", "y"), technical=True)),
)  # fmt: skip
K = 3
FEW = settings(max_examples=10)


def game(strength: float):
    """A model without chance but that of the draws, and an adversary."""
    torch.manual_seed(0)
    model = NB.edit({"n_latent": K, "hidden": (8,), "dropout": 0.0, "norm": "layer"}).build(SCHEMA)
    return model, Adversary(ELBO(), "lane", Discriminator(K, (5,), 2), Constant(strength))


def gradients(loss, *modules) -> list[dict[str, torch.Tensor]]:
    for module in modules:
        module.zero_grad()
    loss.backward()
    return [
        {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in m.named_parameters()} for m in modules
    ]


def plain(model, objective, cells) -> torch.Tensor:
    """The cross-entropy without any reversal, from the same draws."""
    torch.manual_seed(7)
    z_nk = model.terms(cells).z_snk[0]
    return F.cross_entropy(objective.discriminator(z_nk), cells.condition.codes["lane"])


def value(model, objective, cells):
    torch.manual_seed(7)
    return objective(model, cells)


@FEW
@given(strength=st.floats(0, 50))
def test_the_discriminator_is_given_the_plain_gradient_whatever_the_strength(make_cells, strength):
    cells, (model, objective) = make_cells(), game(strength)
    (found,) = gradients(value(model, objective, cells).total, objective)
    (expected,) = gradients(plain(model, objective, cells), objective)
    torch.testing.assert_close(found, expected)


@FEW
@given(strength=st.floats(0, 50))
def test_the_model_is_given_the_gradient_of_its_bound_less_strength_times_the_plain_one(make_cells, strength):
    cells, (model, objective) = make_cells(), game(strength)
    (found,) = gradients(value(model, objective, cells).total, model)
    (adversary,) = gradients(plain(model, objective, cells), model)
    torch.manual_seed(7)
    (bound,) = gradients(ELBO()(model, cells).total, model)
    for name, grad in found.items():
        torch.testing.assert_close(grad, bound[name] - strength * adversary[name], rtol=1e-4, atol=1e-4)
    assert any((grad != 0).any() for grad in adversary.values())


def test_the_likelihood_is_left_alone_by_the_adversary(make_cells):
    (found,) = gradients(plain(*game(1.0), make_cells()), game(1.0)[0])
    assert not any((grad != 0).any() for name, grad in found.items() if name.startswith("_likelihood"))


def test_strength_zero_trains_the_model_bit_for_bit_as_without_an_adversary(make_cells):
    def trained(with_adversary: bool) -> dict[str, torch.Tensor]:
        model, objective = game(0.0)
        objective = objective if with_adversary else ELBO()
        optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 1e-2)
        torch.manual_seed(1)
        for seed in range(5):
            optimizer.zero_grad()
            objective(model, make_cells(seed=seed)).total.backward()
            optimizer.step()
        return model.state_dict()

    torch.testing.assert_close(trained(True), trained(False), rtol=0, atol=0)


@FEW
@given(strength=st.floats(0, 50))
def test_the_total_is_the_value_of_the_game_in_training_and_in_validation(make_cells, strength):
    cells, (model, objective) = make_cells(), game(strength)
    torch.manual_seed(7)
    bound = ELBO()(model, cells).total.item()
    confusion = min(plain(model, objective, cells).item(), math.log(2))
    for mode in (True, False):
        loss = value(model, objective.train(mode), cells)
        assert loss.total.item() == pytest.approx(bound - strength * confusion, rel=1e-5)
    assert loss.terms["adversary"].item() == pytest.approx(plain(model, objective, cells).item(), rel=1e-5)


def test_a_discriminator_that_is_wrong_with_certainty_is_not_rewarded_beyond_chance(make_cells):
    cells, (model, objective) = make_cells(), game(10.0)
    with torch.no_grad():
        objective.discriminator.logits.weight.zero_()
        objective.discriminator.logits.bias.copy_(torch.tensor([0.0, 100.0]))
    loss = value(model, objective, cells)
    torch.manual_seed(7)
    assert loss.terms["adversary"].item() > 10
    assert loss.total.item() == pytest.approx(ELBO()(model, cells).total.item() - 10 * math.log(2), rel=1e-5)


def test_accuracy_is_that_of_the_likeliest_batch_of_every_draw():
    logits_snc = torch.tensor([[[2.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    entropy, right = classification(logits_snc, torch.tensor([0, 1]))
    assert right.item() == 0.75
    assert entropy.item() == pytest.approx(F.cross_entropy(logits_snc.flatten(0, 1), torch.tensor([0, 1, 0, 1])).item())


def test_cells_of_unknown_batch_are_not_asked():
    logits = torch.randn(2, 5, 3)
    known = classification(logits[:, :3], torch.tensor([0, 1, 2]))
    assert classification(logits, torch.tensor([0, 1, 2, 3, 3])) == known
    assert [float(x) for x in classification(logits, torch.full((5,), 3))] == [0.0, 0.0]


def test_it_settles_when_both_schedules_have(make_cells):
    objective = Adversary(ELBO(Ramp(1.0, 0.2)), "lane", Discriminator(K, (5,), 2), Ramp(3.0, 0.6))
    assert [objective.settled(Progress(step, 100)) for step in (10, 30, 60)] == [False, False, True]
    model, _ = game(0.0)
    at_start = objective(model, make_cells(), Progress(0, 100))
    assert at_start.total.item() == pytest.approx(at_start.terms["reconstruction"].item(), rel=1e-5)


def test_the_adversary_learns_what_the_latent_tells_and_the_posterior_to_forget_it(make_cells):
    cells = make_cells(200, stored=False)
    lane_n1 = cells.condition.codes["lane"].unsqueeze(-1)
    cells = replace(
        cells, x=ExpressionRows.from_dense(cells.x.dense() + torch.tensor([3.0, 3.0, 0, 0, 0, 0, 0]) * lane_n1)
    )

    def accuracy(strength: float) -> float:
        torch.manual_seed(0)  # the model is not told the lane, so that only the latent can be
        model = NB.edit({"n_latent": K, "hidden": (8,), "dropout": 0.0, "norm": "layer"}).build(
            Schema(SCHEMA.genes, Kind.COUNTS)
        )
        objective = Adversary(ELBO(Constant(0.1)), "lane", Discriminator(K, (16,), 2), Constant(strength))
        optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 1e-2)
        found = []
        for _ in range(120):
            optimizer.zero_grad()
            loss = objective(model, cells)
            loss.total.backward()
            optimizer.step()
            found.append(loss.terms["adversary_accuracy"].item())
        return sum(found[-20:]) / 20

    assert accuracy(0.0) > 0.7
    assert accuracy(30.0) < accuracy(0.0) - 0.08


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"adversary_strength": -1.0}, "adversary_strength"), ({"adversary_ramp": 2.0}, "adversary_ramp"),
     ({"adversary_hidden": ()}, "adversary_hidden"), ({"adversary_hidden": (0,)}, "adversary_hidden")],
)  # fmt: skip
def test_settings_that_no_adversary_can_use_are_errors_that_name_them(settings, words):
    with pytest.raises(RecipeError, match=words):
        ADVERSARIAL.edit(settings)


def test_a_batch_is_needed_and_two_of_them():
    with pytest.raises(RecipeError, match="--batch"):
        ADVERSARIAL.make_objective(Schema(("a",), Kind.COUNTS), 10)
    one = Schema(("a",), Kind.COUNTS, categorical=(Categorical("lane", ("x",), technical=True),))
    with pytest.raises(RecipeError, match="one batch"):
        ADVERSARIAL.make_objective(one, 10)
