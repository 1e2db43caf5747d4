"""A step: how many operations torch dispatches for it, and its optimiser, which is torch's Adam to rounding."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.profiler import ProfilerActivity, profile

from genevae.data.loader import Loader
from genevae.data.sampler import Shuffled
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.io.formats import MemorySource
from genevae.kernels.adam import FEW
from genevae.objectives.elbo import ELBO
from genevae.recipes.nb import NB
from genevae.training.adam import Adam
from genevae.training.loop import take_step
from genevae.training.settings import Training
from genevae.training.state import State
from genevae.training.world import World

MOST_OPERATIONS = 350
OPTIONS = {"lr": 1e-2, "weight_decay": 1e-2, "eps": 1e-3, "fused": True}


def test_a_step_dispatches_few_operations(adata):
    x = sparse.csr_matrix(np.random.default_rng(0).poisson(0.2, (48, 60)).astype(np.float32))
    genes = tuple(f"G{i}" for i in range(60))
    schema = Schema(genes, Kind.COUNTS)
    obs = adata.obs.iloc[:0].reindex([f"c{i}" for i in range(48)])[[]]
    loader = Loader(MemorySource("x", x, genes, obs), schema, Shuffled(np.arange(48), 16))
    model, settings, device = NB.edit({"hidden": (8,)}).build(schema), Training(epochs=2), torch.device("cpu")
    state = State.begin(model, ELBO(), loader, settings, device, World())
    for number, cells in enumerate(loader):
        assert cells.x.is_sparse
        if number < 2:  # the first step makes the state of the optimiser
            take_step(state, [cells], settings.clip)
        else:
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                take_step(state, [cells], settings.clip)
    names = [event.name for event in profiled.events()]
    assert names.count("aten::item") == 1
    assert 50 < len(names) <= MOST_OPERATIONS


class Pair:
    """The same parameters twice, with our Adam and with torch's."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        kernel = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
        tensors = [torch.randn(7, 5), torch.randn(5), kernel, torch.randn(1, 6), torch.randn(()), torch.randn(FEW + 7)]
        self.parameters = [[torch.nn.Parameter(t.clone()) for t in tensors] for _ in range(2)]
        self.optimizers = [
            make([{"params": mine[:2]}, {"params": mine[2:], "lr": 1e-3}], **OPTIONS)
            for make, mine in zip((Adam, torch.optim.Adam), self.parameters, strict=True)
        ]

    def step(self, without: int | None = None, clip: float = float("inf")) -> None:
        for number, (one, other) in enumerate(zip(*self.parameters, strict=True)):
            gradient = None if number == without else torch.randn(one.shape)
            one.grad = gradient
            other.grad = None if gradient is None else torch.empty_like(other).copy_(gradient)  # as torch lays it out
        ours, torchs = self.optimizers
        norm = torch.nn.utils.clip_grad_norm_(self.parameters[1], clip)
        assert ours.gradient_norm() == pytest.approx(float(norm), rel=1e-6)
        if norm > clip:
            ours.scale_gradients(clip / float(norm))
        for optimizer in (ours, torchs):
            optimizer.step()

    def assert_close(self) -> None:
        ours, torchs = (optimizer.state_dict() for optimizer in self.optimizers)
        assert ours["param_groups"] == torchs["param_groups"]
        for one, other in zip(*self.parameters, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        for number, state in torchs["state"].items():
            for name, tensor in state.items():
                torch.testing.assert_close(ours["state"][number][name], tensor, rtol=1e-5, atol=1e-6)


def test_adam_is_torchs_with_its_state():
    pair = Pair()
    for without, clip in ((None, 1e9), (2, 1e9), (None, 0.5), (0, 0.1), (None, 1e9)):
        pair.step(without, clip)
    pair.assert_close()


def test_adam_goes_on_from_torchs_state_and_from_none():
    pair = Pair()
    pair.step()
    pair.optimizers[0].load_state_dict(copy.deepcopy(pair.optimizers[1].state_dict()))
    pair.step()
    pair.assert_close()
    for optimizer in pair.optimizers:
        optimizer.state.clear()
    pair.step()
    pair.assert_close()


def test_other_numbers_take_torchs_step():
    parameters = [torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2)]
    ours, torchs = Adam(parameters[:1], **OPTIONS), torch.optim.Adam(parameters[1:], **OPTIONS)
    for parameter in parameters:
        parameter.grad = torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64)
    assert ours.gradient_norm() == 5
    ours.scale_gradients(0.5)
    parameters[1].grad /= 2
    ours.step()
    torchs.step()
    assert torch.equal(*parameters)


def twins(make):
    """Return parameters of ours and of torch's, and an optimiser of each."""
    parameters = [torch.nn.Parameter(make()) for _ in range(2)]
    return parameters, [kind([each], lr=0.1) for kind, each in zip((Adam, torch.optim.Adam), parameters, strict=True)]


def steps(parameters, optimizers, n=3):
    for _ in range(n):
        gradient = torch.randn(parameters[0].shape, dtype=parameters[0].dtype)
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(*parameters, rtol=1e-5, atol=1e-6)


def test_a_parameter_with_gaps_in_memory_changes_alone():
    bases = [torch.arange(48.0).view(6, 8) for _ in range(2)]
    parameters = [torch.nn.Parameter(base[:, 3]) for base in bases]
    optimizers = [kind([each], lr=0.1) for kind, each in zip((Adam, torch.optim.Adam), parameters, strict=True)]
    steps(parameters, optimizers)
    torch.testing.assert_close(*bases, rtol=1e-5, atol=1e-6)
    others = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(bases[0][:, others], torch.arange(48.0).view(6, 8)[:, others])


def test_parameters_may_change_their_numbers_their_size_and_their_type_between_steps():
    parameters, optimizers = twins(lambda: torch.ones(30))
    steps(parameters, optimizers)
    for parameter, optimizer in zip(parameters, optimizers, strict=True):
        parameter.data = torch.zeros(3_000)
        optimizer.state.clear()
    steps(parameters, optimizers)
    for parameter, optimizer in zip(parameters, optimizers, strict=True):
        parameter.data = parameter.data.double()
        optimizer.state.clear()
    steps(parameters, optimizers)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_state_may_be_replaced_between_steps(name, in_place):
    parameters, optimizers = twins(lambda: torch.ones(30))
    steps(parameters, optimizers)
    for parameter, optimizer in zip(parameters, optimizers, strict=True):
        if in_place:
            optimizer.state[parameter][name].data = torch.full((30,), 0.25)
        else:
            optimizer.state[parameter][name] = torch.full((30,), 0.25)
    steps(parameters, optimizers)


@pytest.mark.parametrize("option", ["maximize", "amsgrad"])
def test_an_option_that_is_set_later_is_followed(option):
    parameters, optimizers = twins(lambda: torch.ones(30))
    for optimizer in optimizers:
        optimizer.param_groups[0][option] = True
    steps(parameters, optimizers)


def test_a_copy_of_an_optimizer_takes_the_same_steps():
    torch.manual_seed(0)
    parameters, optimizers = twins(lambda: torch.ones(30))
    steps(parameters, optimizers)
    parameter, optimizer = copy.deepcopy((parameters[0], optimizers[0]))
    for each, of_each in ((parameters[0], optimizers[0]), (parameter, optimizer)):
        each.grad = torch.ones(30)
        of_each.step()
    assert torch.equal(parameters[0], parameter)


def test_gradients_that_were_forgotten_scale_nothing():
    parameters, optimizers = twins(lambda: torch.ones(30))
    optimizers[0].scale_gradients(0.0)
    optimizers[0].zero_grad()
    steps(parameters, optimizers)
