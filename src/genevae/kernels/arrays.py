"""Tensors as the arrays that compiled loops take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from genevae.kernels.compile import load

__all__ = ["array", "fits", "integers"]

TYPES = {torch.float32: "=f4", torch.int32: "=i4", torch.int64: "=i8"}


def fits(name: str, *tensors: Tensor | None) -> bool:
    """Whether loops of a module take these tensors: float32 on the CPU, with numba, and not while torch compiles."""
    for x in tensors:
        if x is None or x.dtype is not torch.float32 or not x.is_cpu:
            return False
    return not torch.compiler.is_compiling() and load(name) is not None


class _Memory:
    """The memory of a tensor, as NumPy reads it; unlike ``Tensor.numpy`` it calls no operation of torch."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    @property
    def __array_interface__(self) -> dict[str, Any]:
        x = self._tensor
        return {"shape": tuple(x.shape), "typestr": TYPES[x.dtype], "data": (x.data_ptr(), False), "version": 3}


def array(x: Any) -> Any:
    """Return the numbers of a tensor on the CPU, row by row, without copying them where they lie so."""
    return np.asarray(_Memory(x if x.is_contiguous() else x.detach().contiguous()))


def integers(x: Tensor, dtype: type[np.integer[Any]]) -> Any:
    """Return the integers of a tensor on the CPU as this type; they are not copied if they have it."""
    return array(x).astype(dtype, copy=False)
