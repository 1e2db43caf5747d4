"""The state of training as tensors and JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from genevae.training.history import Epoch, History, Means, RunningEpoch
from genevae.training.state import State

__all__ = ["restore", "to_json", "to_tensors"]

Tensors = Mapping[str, Tensor]


def to_tensors(state: State) -> dict[str, Tensor]:
    """Copy every tensor of the state to the CPU, by a name that says where it belongs."""
    tensors = {f"random.{name}": numbers for name, numbers in _random(state.device).items()}
    tensors |= _named("model", _tensors_of(state.model)) | _named("objective", _tensors_of(state.objective))
    for kind, (model, objective) in (("best", state.best.weights), ("good", state.guard.good)):
        tensors |= _named(f"{kind} model", model) | _named(f"{kind} objective", objective)
    for number, values in state.optimizer.state_dict()["state"].items():
        tensors |= _named(f"optimizer.{number}", {name: v for name, v in values.items() if isinstance(v, Tensor)})
    tensors |= _named("mean", state.running.means.sums)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def to_json(state: State) -> dict[str, Any]:
    """Return everything else of the state; numbers are exact."""
    running, best, guard = state.running, state.best, state.guard
    return {
        "step": state.step,
        "done": state.done,
        "history": asdict(state.history),
        "running": {
            **{name: getattr(running, name) for name in ("minibatches", "skipped_before", "seconds", "waiting")},
            "n_cells": running.means.n_cells,
            "terms": list(running.means.sums),
        },
        "best": {name: getattr(best, name) for name in ("loss", "epoch", "waited")},
        "guard": {name: getattr(guard, name) for name in ("in_a_row", "rolled_back", "skipped")},
        "learning_rates": [group["lr"] for group in state.optimizer.param_groups],
        "plateau": state.plateau.state_dict() if state.plateau else None,
        "scaler": state.scaler.state_dict(),
    }


def restore(state: State, tensors: Tensors, facts: Mapping[str, Any]) -> None:
    """Make a fresh state the stored one.

    Raises
    ------
    KeyError, RuntimeError, TypeError, ValueError
        If the stored state is that of another model.
    """
    _put(_tensors_of(state.model), _under("model", tensors))
    _put(_tensors_of(state.objective), _under("objective", tensors))
    device = state.device
    for kind, kept in (("best", state.best.weights), ("good", state.guard.good)):
        for name, weights in zip(("model", "objective"), kept, strict=True):
            _put(weights, _under(f"{kind} {name}", tensors))
    _restore_optimizer(state, tensors, facts["learning_rates"])
    if state.plateau:
        state.plateau.load_state_dict(facts["plateau"])
    state.scaler.load_state_dict(facts["scaler"])
    for record, name in ((state.best, "best"), (state.guard, "guard")):
        for field, value in facts[name].items():
            setattr(record, field, value)
    state.step, state.done = facts["step"], facts["done"]
    history = facts["history"]
    state.history = History(**{**history, "epochs": [Epoch(**epoch) for epoch in history["epochs"]]})
    running = dict(facts["running"])
    sums = _under("mean", tensors)
    means = Means({name: sums[name].to(device) for name in running.pop("terms")}, running.pop("n_cells"))
    state.running = RunningEpoch(means=means, **running)
    _restore_random(_under("random", tensors), device)


def _restore_optimizer(state: State, tensors: Tensors, learning_rates: Sequence[float]) -> None:
    groups = state.optimizer.state_dict()["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    values = {
        number: {name: _laid_out(value, parameter) for name, value in _under(f"optimizer.{number}", tensors).items()}
        for number, parameter in zip(numbers, state.parameters, strict=True)
    }
    changed = [{**group, "lr": rate} for group, rate in zip(groups, learning_rates, strict=True)]
    known = {number: value for number, value in values.items() if value}
    state.optimizer.load_state_dict({"state": known, "param_groups": changed})


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """Give moments the memory layout of their parameter, which fused Adam requires."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _random(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the random number generators of training."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _restore_random(states: Tensors, device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states and device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return all tensors of a module, including buffers that a saved model does not have."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def _put(into: Tensors, values: Tensors) -> None:
    """Copy numbers into tensors of the same names."""
    if into.keys() != values.keys():
        raise KeyError(*(into.keys() ^ values.keys()))
    for name, tensor in into.items():
        tensor.copy_(values[name])


def _named(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
