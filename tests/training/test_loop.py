"""The loop: it learns, repeats itself, keeps the best, stops and says why, and names what breaks it."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
import torch

from genevae.data.loader import Loader
from genevae.data.sampler import InOrder, Shuffled
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError, TrainingError
from genevae.io.formats import MemorySource
from genevae.objectives.elbo import ELBO
from genevae.objectives.objective import Loss, Objective
from genevae.objectives.schedules import Ramp
from genevae.recipes.gaussian import GAUSSIAN
from genevae.recipes.nb import NB
from genevae.runs.fit import fit
from genevae.training.adam import Adam
from genevae.training.loop import train, validate
from genevae.training.settings import Training, default_batch_size, default_epochs

CPU = torch.device("cpu")
TIMES = ["cells_per_second", "waiting_share"]


class Trial:
    """A small model and loaders of structured data."""

    def __init__(self, x_ng, *, recipe=NB, kind=Kind.COUNTS, batch_size=16, n_validation=16):
        genes = tuple(f"G{i}" for i in range(x_ng.shape[1]))
        obs = pd.DataFrame(index=[f"cell{i}" for i in range(len(x_ng))])
        source, schema = MemorySource("x", x_ng.astype(np.float32), genes, obs), Schema(genes, kind)
        rows = np.arange(len(x_ng))
        torch.manual_seed(0)
        self.model = recipe.edit({"n_latent": 2, "hidden": (8,), "dropout": 0.0}).build(schema)
        self.training = Loader(source, schema, Shuffled(rows[n_validation:], batch_size))
        self.validation = Loader(source, schema, InOrder(rows[:n_validation], 64))

    def train(self, objective=None, **settings):
        objective = ELBO() if objective is None else objective
        return train(self.model, objective, self.training, self.validation, Training(**settings), device=CPU)


class Flat(Objective):
    """A loss that no training changes; settled after some steps."""

    def __init__(self, level: float = 5.0, settled_at: int = 0) -> None:
        super().__init__()
        self.level, self.settled_at = level, settled_at

    def forward(self, model, cells, progress=None):
        per_cell = self.level + 0 * model.bound_n(cells)
        return Loss(per_cell.mean(), {}, per_cell.detach())

    def settled(self, progress):
        return progress.step >= self.settled_at


class Broken(ELBO):
    """An ELBO that is not a number in one cell, in its first so many steps."""

    def __init__(self, row: int, n_broken: float = float("inf")) -> None:
        super().__init__()
        self.row, self.left = row, n_broken

    def forward(self, model, cells, progress=None):
        loss = super().forward(model, cells, progress)
        if progress is None or self.left <= 0:
            return loss
        self.left -= 1
        bad = torch.where(cells.row_n == self.row, torch.nan, 0.0)
        return Loss(loss.total + bad.mean(), loss.terms, loss.per_cell_n + bad)


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    rate = np.ones((96, 10))
    rate[::2, :5] *= 10
    return rng.poisson(rate)


def test_both_losses_go_down_on_structured_data(counts):
    history = Trial(counts).train(epochs=25, learning_rate=1e-2).to_frame()
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] - 2
    assert history["validation_loss"].iloc[-1] < history["validation_loss"].iloc[0] - 2


def fit_once(adata, seed: int):
    return fit(adata, condition=["type"], epochs=3, batch_size=16, n_latent=2, hidden=[8], seed=seed, device="cpu",
               progress=False)  # fmt: skip


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(adata):
    one, same, other = fit_once(adata, 0), fit_once(adata, 0), fit_once(adata, 1)
    weights, again, different = (model.module.state_dict() for model in (one, same, other))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not all(torch.equal(weights[name], different[name]) for name in weights)
    pd.testing.assert_frame_equal(one.history.drop(columns=TIMES), same.history.drop(columns=TIMES), check_exact=True)
    assert one.calibration == same.calibration
    assert torch.equal(one.reference.mean_nk, same.reference.mean_nk)


def test_the_users_random_numbers_are_left_as_they_were(adata):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002 - the user's own
    fit_once(adata, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]


def test_the_users_random_numbers_do_not_change_the_fit(adata):
    torch.manual_seed(1)
    one = fit_once(adata, 0).module.state_dict()
    torch.manual_seed(2)
    other = fit_once(adata, 0).module.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


class Scripted(ELBO):
    """An ELBO whose validation losses are given, and which keeps the weights that each was given for."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses, self.weights = losses, []

    def forward(self, model, cells, progress=None):
        loss = super().forward(model, cells, progress)
        if progress is not None:
            return loss
        scripted = self.losses[len(self.weights)]
        self.weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return Loss(torch.tensor(scripted), loss.terms, loss.per_cell_n)


def test_the_weights_kept_are_those_of_the_best_validation_epoch(counts):
    trial, objective = Trial(counts), Scripted([5.0, 3.0, 4.0, 3.5, 9.0])
    history = trial.train(objective, epochs=5)
    assert history.best_epoch == 1
    assert history.to_frame()["validation_loss"].tolist() == objective.losses
    kept = trial.model.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in objective.weights[1].items())
    assert not all(torch.equal(kept[name], tensor) for name, tensor in objective.weights[4].items())


def test_validation_says_the_same_of_the_same_weights_whatever_the_random_state(counts):
    trial = Trial(counts)
    torch.manual_seed(1)
    first = validate(trial.model, ELBO(), trial.validation, CPU)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert validate(trial.model, ELBO(), trial.validation, CPU) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_without_validation_cells_the_training_loss_takes_their_place(counts):
    history = Trial(counts, n_validation=0).train(epochs=3).to_frame()
    assert (history["validation_loss"] == history["train_loss"]).all()


def test_patience_stops_and_says_why(counts):
    history = Trial(counts).train(Flat(), epochs=30, patience=4)
    assert len(history.epochs) == 5
    assert "did not improve for 4 epochs" in history.ended


def test_patience_runs_only_after_the_schedules_have_settled(counts):
    trial = Trial(counts)
    history = trial.train(Flat(settled_at=10 * len(trial.training)), epochs=30, patience=4)
    assert len(history.epochs) == 13


def test_a_target_loss_stops_and_says_why(counts):
    history = Trial(counts).train(Flat(level=2.0), epochs=30, target_loss=2.5)
    assert len(history.epochs) == 1
    assert "reached its target of 2.5" in history.ended


def test_without_patience_all_epochs_are_done(counts):
    history = Trial(counts).train(Flat(), epochs=12, patience=0)
    assert len(history.epochs) == 12
    assert history.ended == "all epochs are done"


HALVED = {"learning_rate": 0.8, "learning_rate_decay": 0.0}


@pytest.mark.parametrize("level", [5.0, -5.0], ids=["positive", "negative"])
def test_a_plateau_halves_the_learning_rate_whatever_the_sign_of_the_loss(level, counts):
    history = Trial(counts).train(Flat(level), epochs=10, patience=0, **HALVED, plateau=2).to_frame()
    assert history["learning_rate"].tolist() == pytest.approx([0.8] * 4 + [0.4] * 3 + [0.2] * 3)


def test_a_plateau_does_not_go_below_the_least_learning_rate(counts):
    numbers = {"patience": 0, **HALVED, "plateau": 1, "least_learning_rate": 0.3}
    history = Trial(counts).train(Flat(), epochs=10, **numbers).to_frame()
    assert history["learning_rate"].tolist() == pytest.approx([0.8] * 3 + [0.4] * 2 + [0.3] * 5)


def test_a_plateau_waits_for_the_schedules_and_zero_never_halves(counts):
    trial = Trial(counts)
    late = trial.train(Flat(settled_at=8 * len(trial.training)), epochs=10, patience=0, **HALVED, plateau=2)
    never = Trial(counts).train(Flat(), epochs=10, patience=0, **HALVED, plateau=0)
    for history in (late, never):
        assert {epoch.learning_rate for epoch in history.epochs} == {0.8}


@pytest.mark.parametrize("n_left", [17, 33, 32])
def test_no_minibatch_has_one_cell(n_left, counts):
    trial = Trial(counts[: 16 + n_left])
    sizes = []
    objective = ELBO()
    objective.register_forward_pre_hook(lambda _, args: sizes.append(args[1].n_cells))
    trial.train(objective, epochs=1)
    assert min(sizes[:-1]) > 1
    assert sum(sizes[:-1]) == n_left


@pytest.mark.parametrize("n_train", [0, 1])
def test_too_few_cells_to_train_on_are_an_error(n_train, counts):
    with pytest.raises(TrainingError, match=f"There are {n_train} cells to train on"):
        Trial(counts[: 16 + n_train]).train(epochs=1)


def test_steps_count_over_epochs_and_the_ramp_follows_them(counts):
    trial = Trial(counts)
    seen = []
    objective = ELBO(Ramp(1.0, 0.5))
    objective.register_forward_pre_hook(lambda _, args: seen.append(args[2].step) if len(args) > 2 else None)
    history = trial.train(objective, epochs=3)
    assert seen == list(range(15))
    assert [epoch.step for epoch in history.epochs] == [5, 10, 15]


def test_a_bad_step_is_skipped_and_training_goes_on(counts):
    history = Trial(counts).train(Broken(row=20, n_broken=5), epochs=4).to_frame()
    assert history["skipped"].sum() == 1
    assert np.isfinite(history[["train_loss", "validation_loss"]]).all(axis=None)


def test_bad_steps_in_a_row_go_back_and_halve_the_learning_rate(counts):
    trial = Trial(counts, batch_size=96)
    history = trial.train(Broken(row=20, n_broken=4), epochs=8, learning_rate=0.01, learning_rate_decay=0.0).to_frame()
    assert history["skipped"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert history["learning_rate"].tolist() == pytest.approx([0.01] * 3 + [0.005] * 5)
    assert history["validation_loss"].iloc[-1] < history["validation_loss"].iloc[0]


def test_what_stays_broken_is_an_error_that_names_the_cell(counts):
    with pytest.raises(TrainingError, match=r"not finite.*Cells: cell20\. Genes: none in particular"):
        Trial(counts, batch_size=96).train(Broken(row=20), epochs=40)


def test_an_extreme_value_is_an_error_that_names_its_cell_and_gene():
    x = np.random.default_rng(0).normal(size=(48, 6))
    x[20, 3] = 1e30
    with pytest.raises(TrainingError, match=r"Cells: cell20\. Genes: G3\."):
        Trial(x, recipe=GAUSSIAN.edit({"norm": "none"}), kind=Kind.SCALED, batch_size=96).train(epochs=40)


def test_a_skipped_step_leaves_nothing_in_batch_norm():
    x = np.random.default_rng(0).normal(size=(80, 6))
    x[20, 3] = 1e30
    trial = Trial(x, recipe=GAUSSIAN, kind=Kind.SCALED)
    history = trial.train(epochs=4).to_frame()
    assert history["skipped"].tolist() == [1, 1, 1, 1]
    assert history["validation_loss"].max() < 100
    buffers = [buffer for _, buffer in trial.model.named_buffers() if buffer.is_floating_point()]
    assert buffers
    assert all(buffer.abs().max() < 1e3 for buffer in buffers)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("batch_size", 1), ("patience", -1), ("plateau", -1), ("learning_rate", 0.0), ("clip", -1.0),
     ("epsilon", 0.0), ("learning_rate", float("nan")), ("weight_decay", -1.0)],
)  # fmt: skip
def test_settings_that_no_training_can_use_are_refused(name, value):
    with pytest.raises(RecipeError, match=name):
        Training(**{name: value})


def test_the_learning_rate_falls_to_zero_over_the_last_part_of_training(counts):
    settings = Training(epochs=8, learning_rate=0.4, learning_rate_decay=0.25)
    factors = np.array([settings.rate_factor(step, 80) for step in range(81)])
    assert (factors[:61] == 1).all()
    assert (np.diff(factors[60:]) < 0).all()
    assert factors[70] == pytest.approx(0.5)
    assert factors[80] == 0
    rates = Trial(counts).train(Flat(), epochs=8, patience=0, learning_rate=0.4).to_frame()["learning_rate"]
    assert (rates[:4] == 0.4).all()
    assert rates.iloc[4:].is_monotonic_decreasing
    assert rates.iloc[-1] < 0.01


def test_a_rate_of_zero_changes_nothing_in_either_form_of_adam():
    for dtype in (torch.float32, torch.float64):  # compiled, and torch's own
        parameter = torch.nn.Parameter(torch.ones(3, dtype=dtype))
        optimizer = Adam([{"params": [parameter]}], lr=0.1)
        for factor, changes in ((0.0, False), (0.5, True)):
            before, optimizer.rate_factor = parameter.detach().clone(), factor
            parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            assert torch.equal(parameter, before) is not changes
        assert optimizer.param_groups[0]["lr"] == 0.1


def test_few_cells_get_more_epochs_and_smaller_minibatches_and_many_cells_fewer_epochs():
    assert [default_epochs(n) for n in (1, 500, 1_000, 4_000, 16_000, 10**9)] == [400, 60, 30, 30, 15, 10]
    assert [default_epochs(n, typical=5) for n in (1_000, 16_000)] == [5, 5]
    assert [default_batch_size(n) for n in (2, 999, 1_000, 2_000, 10**9)] == [32, 32, 64, 128, 128]


def test_the_last_weights_can_be_kept(make_adata):
    def bound(keep_best):
        settings = {"patience": 0, "keep_best": keep_best}
        return fit(make_adata(60), epochs=8, batch_size=16, learning_rate=0.05, setting=settings, progress=False)

    best, last = bound(True), bound(False)
    assert best.history.drop(columns=["cells_per_second", "waiting_share"]).equals(
        last.history.drop(columns=["cells_per_second", "waiting_share"])
    )
    same = all(torch.equal(a, b) for a, b in zip(best.module.parameters(), last.module.parameters(), strict=True))
    assert same == (best.facts["best_epoch"] == 8)
    assert best.facts["best_epoch"] < 8, "the case is one in which it makes a difference"
