"""Recorded steps are those of the loop. What a GPU does is imitated: the operations of torch are listed, and repeated.

The imitation is as strict as a CUDA graph: nothing has happened when it has recorded, the host reads nothing and makes
no tensor from numbers, and a replay has the memory, the shapes and the numbers of the recording.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genevae.errors import GenevaeWarning, TrainingError
from genevae.kernels import compile as kernels
from genevae.objectives.elbo import ELBO
from genevae.runs import fit as fitting
from genevae.runs.fit import fit
from genevae.training import graph, graph_check
from genevae.training.callbacks import Callback
from genevae.training.graph import BEFORE, Recorder
from genevae.training.state import Compute

FORBIDDEN = {"_local_scalar_dense", "nonzero", "lift_fresh", "masked_select", "_unique2"}
"""What waits for the GPU, or copies from memory that is not pinned."""
COMMON = {"folds": 0, "progress": False, "seed": 3, "batch_size": 48, "epochs": 4}
NAMES = {"condition": ["drug"], "batch": "lane"}
RECIPES = {
    "nb": NAMES,
    "zinb": {**NAMES, "setting": {"dispersion": "gene-cell"}},
    "poisson": {},
    "gaussian": {**NAMES, "continuous": ["dose"]},
    "conditional": {"condition": ["type", "drug", "lane"]},
    "linear": NAMES,
    "convolutional": {"condition": ["type"]},
    "convolutional-nb": {"condition": ["type"]},
}


class Listing(TorchDispatchMode):
    """Lists operations with the tensors that they read and make."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.before = [], []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation.namespace == "profiler":
            return operation(*args, **kwargs)
        if operation.overloadpacket.__name__ in FORBIDDEN:
            raise RuntimeError(f"{operation} is not permitted while a stream is captured\nand more")
        if operation._schema.is_mutable:
            self.before += [(x, x.detach().clone()) for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)]
        made = operation(*args, **kwargs)
        self.operations.append((operation, args, kwargs, made))
        return made


def imitated(function):
    """Record a function as a GPU would."""
    listing, random_numbers = Listing(), torch.get_rng_state()
    with listing:
        made = function()
    with torch.no_grad():
        for tensor, before in reversed(listing.before):
            tensor.copy_(before)
    torch.set_rng_state(random_numbers)

    @torch.no_grad()
    def replay():
        for operation, args, kwargs, kept in listing.operations:
            again = operation(*args, **kwargs)
            for one, other in zip(tree_leaves(kept), tree_leaves(again), strict=True):
                if torch.is_tensor(one) and one.data_ptr() != other.data_ptr():
                    one.copy_(other)

    return made, replay


@pytest.fixture(autouse=True)
def _without_loops(monkeypatch):
    """Compiled loops are not operations of torch."""
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    kernels.load.cache_clear()
    yield
    kernels.load.cache_clear()


@pytest.fixture
def train(monkeypatch, make_adata):
    """Return a function that fits a model, whose steps something records."""

    def run(record=None, n=125, **options):
        recorder = Recorder(record)
        monkeypatch.setattr(fitting, "recorder_on", lambda _: recorder)
        options = {**COMMON, "setting": {"hidden": (8,)}, **options}
        return fit(make_adata(n), cuda_graphs=record is not None, **options), recorder

    return run


def close(one, other) -> None:
    for name in set(one.history) - {"cells_per_second", "waiting_share"}:
        np.testing.assert_allclose(other.history[name], one.history[name], rtol=1e-3, atol=1e-4, err_msg=name)
    for name, tensor in one.module.state_dict().items():
        torch.testing.assert_close(other.module.state_dict()[name], tensor, rtol=1e-2, atol=1e-3)


def same_bits(one, other) -> None:
    for name, tensor in one.module.state_dict().items():
        assert torch.equal(tensor, other.module.state_dict()[name]), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_from_recorded_steps_is_that_of_the_loop(recipe, train):
    replayed = []

    def counting(function):
        made, replay = imitated(function)
        return made, lambda: (replayed.append(function.__name__), replay())

    options = {"recipe": recipe, "setting": {}, **RECIPES[recipe]}
    plain, _ = train(**options)
    recorded, recorder = train(counting, **options)
    assert recorder.record is not None
    # 113 training cells have two full minibatches and a smaller one; two steps of each recording are trials.
    n_full = 2 * COMMON["epochs"]
    assert replayed.count("_passes") == replayed.count("_update") == n_full - BEFORE + 2
    close(plain, recorded)


def test_half_precision_is_recorded_too(train):
    plain, _ = train(precision="bf16", recipe="nb", **NAMES)
    recorded, recorder = train(imitated, precision="bf16", recipe="nb", **NAMES)
    assert recorder.record is not None
    np.testing.assert_allclose(recorded.history["train_loss"], plain.history["train_loss"], rtol=1e-3)


def test_schedules_rates_and_clipping_change_between_replays(train):
    changing = {"setting": {"hidden": (8,), "beta_ramp": 1.0, "learning_rate_decay": 1.0, "clip": 0.5}}
    plain, _ = train(**changing)
    recorded, recorder = train(imitated, **changing)
    assert recorder.record is not None
    assert recorded.history["beta"].is_monotonic_increasing
    assert recorded.history["beta"].nunique() == 4
    close(plain, recorded)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"recipe": "cycle", "condition": ["type"], "setting": {}}, "the objective of this recipe or its settings"),
        ({"recipe": "bulk", "setting": {}}, "the objective of this recipe or its settings"),
        ({"accumulate": 2}, "a step has several minibatches"),
    ],
)
def test_what_cannot_be_recorded_is_said_and_trained_by_the_loop(options, why, train):
    plain, _ = train(**options)
    with pytest.warns(GenevaeWarning, match=f"Training continues without CUDA graphs: {why}"):
        recorded, _ = train(imitated, **options)
    same_bits(plain, recorded)


def reading(weigh):
    """Let an objective read a number of the GPU."""

    def read(self, terms, progress):
        terms.kl_n.sum().item()
        return weigh(self, terms, progress)

    return read


def test_a_step_that_reads_the_gpu_is_not_recorded_and_changes_nothing(train, monkeypatch):
    plain, _ = train()
    monkeypatch.setattr(ELBO, "weigh", reading(ELBO.weigh))
    with pytest.warns(GenevaeWarning, match="recording failed: aten._local_scalar_dense.default is not permitted"):
        recorded, recorder = train(imitated)
    assert recorder.record is None
    same_bits(plain, recorded)


def nothing(*_):
    """Do nothing."""


def scaled_rates(state):
    """Return rates that are too large by a twentieth."""
    return [1.05 * group["lr"] * state.optimizer.rate_factor for group in state.optimizer.param_groups]


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ((graph.RecordedProgress, "move_to", nothing), "loss"),
        ((graph, "_copy", nothing), "loss"),
        ((graph.RecordedStep, "update", nothing), "loss"),
        ((graph, "_rates", lambda state: [group["lr"] for group in state.optimizer.param_groups]), "loss"),
        ((graph, "_rates", scaled_rates), "change of weights"),
    ],
)
def test_a_recording_that_is_wrong_is_not_used(broken, what, train, monkeypatch):
    options = {"setting": {"hidden": (8,), "beta_ramp": 1.0, "learning_rate_decay": 0.0}}
    plain, _ = train(**options)
    monkeypatch.setattr(*broken)
    with pytest.warns(GenevaeWarning, match=f"a replayed step has another {what}"):
        recorded, _ = train(imitated, **options)
    same_bits(plain, recorded)


def bad_at(steps):
    """Let the loss be NaN at some steps of the loop, as cells do whose values overflow."""
    compute = Compute.forward

    def forward(self, cells, progress):
        loss = compute(self, cells, progress)
        return replace(loss, total=loss.total * float("nan")) if progress.step in steps else loss

    return forward


@pytest.mark.parametrize("steps", [{0, 1, 2, 3}, {1, 2, 3, 4}, {2, 3, 4, 5}, {3}])
def test_bad_steps_before_one_is_recorded_are_skipped_as_by_the_loop(steps, train, monkeypatch):
    monkeypatch.setattr(Compute, "forward", bad_at(steps))
    plain, _ = train(epochs=8)
    recorded, recorder = train(imitated, epochs=8)
    assert recorder.record is not None
    assert recorded.history["skipped"].sum() == len(steps)
    close(plain, recorded)


def test_training_that_only_has_bad_steps_ends_as_the_loop_does(train, monkeypatch):
    monkeypatch.setattr(Compute, "forward", bad_at(range(10_000)))
    with pytest.raises(TrainingError, match="not finite"):
        train(imitated, epochs=30)


@pytest.mark.parametrize("options", [{"recipe": "poisson"}, {"precision": "bf16", "setting": {"hidden": (64,)}}])
def test_rounding_is_no_difference(options, train, monkeypatch, make_adata):
    large = make_adata(125)
    large.X = large.X * 1_000
    monkeypatch.setattr(fitting, "recorder_on", lambda _: recorder)
    recorder = Recorder(imitated)
    fit(large, cuda_graphs=True, **{**COMMON, "setting": {"hidden": (8,)}, **options})
    assert recorder.record is not None


def test_a_fit_says_once_why_it_has_no_graphs_and_keeps_none_in_memory(make_adata, monkeypatch):
    kept, init = [], graph.RecordedStep.__init__

    def noting(self, *arguments):
        init(self, *arguments)
        kept.append(weakref.ref(self))

    options = {**COMMON, "folds": 2, "condition": ["type", "drug"], "control": {"drug": "ctrl"}}
    options |= {"epochs": 12, "cuda_graphs": True}
    with pytest.warns(GenevaeWarning) as caught:
        fit(make_adata(), device="cpu", **options)
    assert sum("CUDA graphs" in str(each.message) for each in caught) == 1
    monkeypatch.setattr(graph.RecordedStep, "__init__", noting)
    monkeypatch.setattr(fitting, "recorder_on", lambda _: Recorder(imitated))
    fit(make_adata(), **options)
    assert len(kept) == 3
    gc.collect(0)
    assert not any(each() for each in kept)


class Clears(Callback):
    """Forgets the state of Adam once, as a return to earlier weights does."""

    def on_step(self, state):
        if state.step == BEFORE + 3:
            state.optimizer.state.clear()


class ClearsOne(Callback):
    """Forgets the moments of one weight before a step is recorded."""

    def on_step(self, state):
        if state.step == BEFORE + 1:
            del state.optimizer.state[state.parameters[0]]


def test_a_weight_without_moments_is_not_recorded_and_has_none_after_the_trials(train):
    plain, _ = train(callbacks=[ClearsOne()])
    with pytest.warns(GenevaeWarning, match="recording failed: a weight has a gradient for the first time"):
        recorded, _ = train(imitated, callbacks=[ClearsOne()])
    same_bits(plain, recorded)


def test_a_step_is_recorded_again_where_adam_has_a_new_state(train):
    records = []

    def counting(function):
        records.append(function.__name__)
        return imitated(function)

    options = {"epochs": 8, "callbacks": [Clears()]}
    plain, _ = train(**options)
    recorded, recorder = train(counting, **options)
    assert recorder.record is not None
    assert records.count("_update") == 2
    close(plain, recorded)


def test_cells_whose_loss_is_not_finite_are_no_trial(train, monkeypatch):
    trials = []

    def broken(*arguments):
        trials.append(graph_check.step_of_the_loop(*arguments))
        return [float("nan"), trials[-1][1]] if len(trials) == 1 else trials[-1]

    monkeypatch.setattr(graph, "step_of_the_loop", broken)
    plain, _ = train()
    recorded, recorder = train(imitated)
    assert recorder.record is not None
    assert len(trials) == 4
    close(plain, recorded)


def test_a_replayed_step_that_is_not_finite_is_skipped(train, make_adata, monkeypatch):
    plain, _ = train(epochs=6)
    steps = []
    gradient = graph.RecordedStep.gradient

    def broken(self, cells, progress):
        losses, norm = gradient(self, cells, progress)
        steps.append(norm)
        return losses, float("nan") if len(steps) == 5 else norm

    monkeypatch.setattr(graph.RecordedStep, "gradient", broken)
    recorded, recorder = train(imitated, epochs=6)
    assert recorder.record is not None
    assert recorded.history["skipped"].sum() == 1
    assert plain.history["skipped"].sum() == 0
    assert all(tensor.isfinite().all() for tensor in recorded.module.state_dict().values())


def test_without_a_gpu_a_warning_says_so(make_adata):
    adata = make_adata(60)
    plain = fit(adata, **COMMON)
    with pytest.warns(GenevaeWarning, match="need an NVIDIA GPU, and the device is cpu"):
        other = fit(adata, **COMMON, device="cpu", cuda_graphs=True)
    same_bits(plain, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("recipe", RECIPES)
def test_on_a_gpu_training_from_cuda_graphs_is_that_of_the_loop(recipe, make_adata):
    options = {**COMMON, "recipe": recipe, "device": "cuda", **RECIPES[recipe]}
    close(fit(make_adata(), **options), fit(make_adata(), cuda_graphs=True, **options))
