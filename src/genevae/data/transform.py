"""From the numbers in a file to the numbers that a model sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from genevae.cells import Rows
from genevae.data.kind import Kind
from genevae.errors import DataError, nearest

__all__ = ["AsIs", "LogNormalise", "Transform", "transform_from_json", "transform_to_json"]


class Transform(Protocol):
    """A change of the numbers, cell by cell."""

    name: ClassVar[str]

    def apply(self, x: Rows, size_n1: Tensor) -> Rows:
        """Change what a file holds into what a model sees; zeros of sparse rows stay."""

    def kind(self, before: Kind) -> Kind:
        """Say what the numbers are after the change."""


@dataclass(frozen=True)
class AsIs:
    """No change."""

    name: ClassVar[str] = "as-is"

    def apply(self, x: Rows, size_n1: Tensor) -> Rows:  # noqa: ARG002 - the protocol's signature
        """Return the rows."""
        return x

    def kind(self, before: Kind) -> Kind:
        """Say that the numbers are what they were."""
        return before


@dataclass(frozen=True)
class LogNormalise:
    """log(1 + x · target / size): counts as if every cell had the same size.

    There is no way back for what a model expects: turned back, a mean of logarithms falls short of the mean.

    Parameters
    ----------
    target
        The size that every cell is scaled to, in counts.
    """

    target: float = 1e4
    name: ClassVar[str] = "log-normalise"

    def apply(self, x: Rows, size_n1: Tensor) -> Rows:
        """Scale each cell to the target and take log(1 + x)."""
        factor_n1 = self.target / size_n1.clamp(min=1)
        factor = factor_n1.squeeze(-1)[x.cell_e] if x.is_sparse else factor_n1
        return x.map(lambda values: torch.log1p(values * factor))

    def kind(self, before: Kind) -> Kind:  # noqa: ARG002 - the protocol's signature
        """Say that the numbers are log-normalised."""
        return Kind.LOG


TRANSFORMS: dict[str, type[AsIs] | type[LogNormalise]] = {kind.name: kind for kind in (AsIs, LogNormalise)}


def transform_to_json(transform: Transform) -> dict[str, Any]:
    """Write a transform down."""
    return {"name": transform.name, **asdict(transform)}  # type: ignore[call-overload]


def transform_from_json(written: dict[str, Any]) -> Transform:
    """Read a transform back."""
    settings = dict(written)
    name = settings.pop("name")
    if name not in TRANSFORMS:
        raise DataError(f"The schema names an unknown transform '{name}'. {nearest(name, TRANSFORMS)}")
    return TRANSFORMS[name](**settings)
