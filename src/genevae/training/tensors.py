"""Tensors as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

__all__ = ["write_tensors"]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name, to a file that others may read as they may read any: ``save_file`` keeps its from them."""
    path.write_bytes(save(dict(tensors)))
