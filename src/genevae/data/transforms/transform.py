"""Transforms from the values in the data to the input of a model, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from genevae.cells import Cells, ExpressionRows
from genevae.data.value_kind import Kind

__all__ = ["AsIs", "LogNormalise", "Standardise", "Transform"]


class Transform(Protocol):
    """A transform of expression, cell by cell."""

    name: ClassVar[str]

    def fit(self, minibatches: Iterable[Cells]) -> Transform:
        """Fit to training cells, with the values of the data."""

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Transform values of the data to the input of the model."""

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:
        """Transform expectations of the model to the values that tasks return, as far as expectations allow."""

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:
        """Sample cells of these sizes from p, in the values that tasks return."""

    def kind(self, before: Kind) -> Kind:
        """Return the kind of the model's input, given the kind of the data."""

    def output_kind(self, before: Kind) -> Kind:
        """Return the kind of the values that tasks return, given the kind of the data."""

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""


@dataclass(frozen=True)
class AsIs:
    """The identity."""

    name: ClassVar[str] = "as-is"

    def fit(self, minibatches: Iterable[Cells]) -> Transform:  # noqa: ARG002 - the protocol's signature
        """Return itself: there is nothing to fit."""
        return self

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:  # noqa: ARG002 - the protocol's signature
        """Return the rows."""
        return x

    def kind(self, before: Kind) -> Kind:
        """Return the kind of the data."""
        return before

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Return the values."""
        return x_ng

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Sample from p."""
        return p.sample()

    output_kind = kind

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        return {"name": self.name}


@dataclass(frozen=True)
class LogNormalise:
    """log(1 + x · target / size): log counts as if every cell had the same size.

    Expectations are not inverted, because the exponential of a mean of logarithms underestimates the mean.

    Parameters
    ----------
    target
        The size that every cell is scaled to, in counts.
    """

    target: float = 1e4
    name: ClassVar[str] = "log-normalise"

    def fit(self, minibatches: Iterable[Cells]) -> Transform:  # noqa: ARG002 - the protocol's signature
        """Return itself: there is nothing to fit."""
        return self

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Scale each cell to the target and take log(1 + x)."""
        factor_n1 = self.target / size_n1.clamp(min=1)
        factor = factor_n1.squeeze(-1)[x.cell_e] if x.is_sparse else factor_n1
        return x.map(lambda values: torch.log1p(values * factor))

    def kind(self, before: Kind) -> Kind:  # noqa: ARG002 - the protocol's signature
        """Return "log-normalised"."""
        return Kind.LOG

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Return the logarithms."""
        return x_ng

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Sample logarithms from p."""
        return p.sample()

    output_kind = kind

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        return {"name": self.name, "target": self.target}


@dataclass(frozen=True, eq=False)
class Standardise:
    """(x − mean) / standard deviation of each gene, after another transform.

    Parameters
    ----------
    inner
        The transform to apply first.
    mean_g, scale_g
        Mean and standard deviation in the training cells, after fitting. Constant genes are only centred.
    floor
        Least standard deviation that a gene is divided by, as a share of the median over genes that vary: else a gene
        that hardly varies in the training cells has values of hundreds in other cells, and most of their error.
    """

    inner: Transform
    mean_g: Tensor = field(default_factory=lambda: torch.zeros(1))
    scale_g: Tensor = field(default_factory=lambda: torch.ones(1))
    floor: float = 0.0
    name: ClassVar[str] = "standardise"

    def fit(self, minibatches: Iterable[Cells]) -> Transform:
        """Compute mean and standard deviation in one pass, over the cells in which a gene was measured."""
        n, sum_g, square_g = torch.zeros(3, 1, dtype=torch.float64)
        for cells in minibatches:
            x_ng = self.inner.apply(cells.x, cells.condition.size_n1).dense().double()
            measured = cells.condition.measured_ng
            n = n + (cells.n_cells if measured is None else measured.sum(0))
            sum_g, square_g = sum_g + x_ng.sum(0), square_g + x_ng.square().sum(0)
        mean_g = sum_g / n.clamp(min=1)
        scale_g = (square_g / n.clamp(min=1) - mean_g.square()).clamp(min=0).sqrt()
        varies_g = scale_g > 1e-6 * mean_g.abs().clamp(min=1e-3)
        least = self.floor * scale_g[varies_g].median() if self.floor and varies_g.any() else 0.0
        scale_g = scale_g.clamp(min=least).where(varies_g, 1.0)
        return Standardise(self.inner.fit(()), mean_g.float(), scale_g.float(), self.floor)

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Transform, centre and scale. The result is dense."""
        return ExpressionRows.from_dense((self.inner.apply(x, size_n1).dense() - self.mean_g) / self.scale_g)

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:
        """Invert the scaling, the centring and the inner transform."""
        return self.inner.invert(x_ng * self.scale_g.to(x_ng) + self.mean_g.to(x_ng), size_n1)

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:
        """Sample from p, and invert the scaling, the centring and the inner transform."""
        return self.invert(p.sample(), size_n1)

    def kind(self, before: Kind) -> Kind:  # noqa: ARG002 - the protocol's signature
        """Return "scaled"."""
        return Kind.SCALED

    def output_kind(self, before: Kind) -> Kind:
        """Return the output kind of the inner transform."""
        return self.inner.output_kind(before)

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        moments = {"mean": self.mean_g.tolist(), "scale": self.scale_g.tolist()}
        return {"name": self.name, "inner": self.inner.to_json(), **moments}
