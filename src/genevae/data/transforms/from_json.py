"""Restoring a transform from JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from genevae.data.transforms.gene_order import Ordered
from genevae.data.transforms.minmax import ScaleToUnit
from genevae.data.transforms.transform import AsIs, LogNormalise, Standardise, Transform
from genevae.errors import DataError, nearest

__all__ = ["transform_from_json"]

READERS: dict[str, Callable[[dict[str, Any]], Transform]] = {
    AsIs.name: lambda _: AsIs(),
    LogNormalise.name: lambda content: LogNormalise(content["target"]),
    Standardise.name: lambda content: Standardise(
        transform_from_json(content["inner"]), torch.tensor(content["mean"]), torch.tensor(content["scale"])
    ),
    ScaleToUnit.name: lambda content: ScaleToUnit(torch.tensor(content["highest"])),
    Ordered.name: lambda content: Ordered(
        transform_from_json(content["inner"]), content["by"], torch.tensor(content["order"])
    ),
}
"""The constructor of each transform from its JSON values."""


def transform_from_json(content: dict[str, Any]) -> Transform:
    """Restore a transform from its JSON values.

    Raises
    ------
    DataError
        If the transform is unknown.
    """
    name = content["name"]
    if name not in READERS:
        raise DataError(f"The schema has an unknown transform '{name}'. {nearest(name, READERS)}")
    return READERS[name](content)
