"""The device that a model computes on."""

from __future__ import annotations

import torch

from genevae.errors import RecipeError, nearest

__all__ = ["resolve_device"]

SAME = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps"}
"""Other names of devices."""


def resolve_device(name: str | int | torch.device) -> torch.device:
    """Choose where to compute.

    Parameters
    ----------
    name
        auto, cpu, cuda, cuda:1 or mps; gpu and the number of a GPU are cuda.

    Raises
    ------
    RecipeError
        If there is no such device here.
    """
    text = f"cuda:{name}" if isinstance(name, int) and not isinstance(name, bool) else str(name)
    kind, colon, number = text.lower().partition(":")
    kind = SAME.get(kind, kind)
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if kind == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if kind in present and not present[kind]:
        raise RecipeError(
            f"There is no device '{text}' here: PyTorch finds none. Leave the device out to compute on the CPU, or "
            "install the PyTorch that fits the machine."
        )
    n_devices = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in present or (colon and not (number.isdecimal() and int(number) < n_devices)):
        there = [each for each in present if present[each]]
        raise RecipeError(f"There is no device '{text}' here. {nearest(kind, ['auto', *there])}")
    return torch.device(kind + colon + number)
