"""Layers that compute with half as many bits, or as compiled code; what they give is float32 all the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from genevae.errors import RecipeError
from genevae.nn.image import Convolutions, TransposedConvolutions
from genevae.nn.mlp import MLP
from genevae.training.settings import Precision

__all__ = ["compiled", "drawing_nothing", "half_precision"]

NETWORKS = (MLP, Convolutions, TransposedConvolutions, nn.Linear)
"""What computes with half precision: all but the first layer, which multiplies expression, and counts have no limit."""
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def networks(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the outermost networks of some modules."""
    found: list[nn.Module] = []
    for module in modules:
        if isinstance(module, NETWORKS):
            found.append(module)
        else:
            found += networks(list(module.children()))
    return found


@contextmanager
def half_precision(modules: Sequence[nn.Module], precision: Precision, device: torch.device) -> Iterator[None]:
    """Let the networks of some modules compute with half precision, and give float32.

    Weights stay float32, and so do expression, distributions, divergences and losses, and their gradients.

    Parameters
    ----------
    modules
        Whose networks; they are as they were afterwards.
    precision
        ``float32`` changes nothing.
    device
        Where they compute.

    Raises
    ------
    RecipeError
        If there are no networks, or the device cannot compute so.
    """
    if precision == "float32":
        yield
        return
    _require(precision, device)
    found = networks(modules)
    if not found:
        raise RecipeError(f"This recipe has no layers that could compute in {precision}: leave out the precision.")
    for network in found:
        network.forward = partial(_in_half, network.forward, device.type, TYPES[precision])
    try:
        yield
    finally:
        for network in found:
            del network.forward


def _in_half(forward: Callable[..., Tensor], device: str, kind: torch.dtype, *inputs: Tensor) -> Tensor:
    with torch.autocast(device, kind):
        return forward(*inputs).float()


def _require(precision: Precision, device: torch.device) -> None:
    """Try it on a few numbers."""
    try:
        with drawing_nothing(device):
            layer = nn.Linear(8, 8, device=device)
            _in_half(layer.forward, device.type, TYPES[precision], torch.ones(8, 8, device=device)).sum().backward()
    except (RuntimeError, ValueError) as error:
        raise RecipeError(
            f"The device '{device}' cannot compute in {precision}: {error}. Choose float32, or another device."
        ) from error


@contextmanager
def compiled(modules: Sequence[nn.Module], device: torch.device, wanted: bool = True) -> Iterator[None]:
    """Compile the networks of some modules, or say in one line why that cannot be.

    Their weights keep their names, and afterwards they are as they were.

    Parameters
    ----------
    modules
        Whose networks.
    device
        Where they compute.
    wanted
        Whether to compile at all.
    """
    found = networks(modules) if wanted and _can_compile(device) else []
    for network in found:
        network.compile(dynamic=True)
    try:
        yield
    finally:
        for network in found:
            network._compiled_call_impl = None


def _can_compile(device: torch.device) -> bool:
    """Try it on a small network."""
    try:
        with drawing_nothing(device):
            trial: Any = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).to(device)
            trial.compile(dynamic=True)
            trial(torch.ones(4, 8, device=device)).sum().backward()
    except Exception as error:  # noqa: BLE001 - a compiler fails in many ways, and none of them should end training
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"genevae: nothing is compiled, for the trial failed: {reason[:160]}", file=sys.stderr)  # noqa: T201
        return False
    return True


def drawing_nothing(device: torch.device) -> AbstractContextManager[None]:
    """Leave the random numbers of training as they are."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
