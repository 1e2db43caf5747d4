"""Read a transform back from JSON."""

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
    LogNormalise.name: lambda written: LogNormalise(written["target"]),
    Standardise.name: lambda written: Standardise(
        transform_from_json(written["inner"]), torch.tensor(written["mean"]), torch.tensor(written["scale"])
    ),
    ScaleToUnit.name: lambda written: ScaleToUnit(torch.tensor(written["highest"])),
    Ordered.name: lambda written: Ordered(
        transform_from_json(written["inner"]), written["by"], torch.tensor(written["order"])
    ),
}
"""For each transform, what reads its JSON."""


def transform_from_json(written: dict[str, Any]) -> Transform:
    """Read a transform back.

    Raises
    ------
    DataError
        If there is no transform of that name.
    """
    name = written["name"]
    if name not in READERS:
        raise DataError(f"The schema names an unknown transform '{name}'. {nearest(name, READERS)}")
    return READERS[name](written)
