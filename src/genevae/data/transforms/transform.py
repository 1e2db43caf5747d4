"""From the numbers in a file to the numbers that a model sees."""

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
    """A change of the numbers, cell by cell."""

    name: ClassVar[str]

    def fit(self, minibatches: Iterable[Cells]) -> Transform:
        """Learn what is to be learned from training cells, as the file holds them."""

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Change what a file holds into what a model sees."""

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:
        """Change what a model says into what its tasks return: as far back as expectations can be taken."""

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:
        """Draw cells of these sizes, as tasks return them, where a model says p."""

    def kind(self, before: Kind) -> Kind:
        """Say what the numbers are that a model sees."""

    def output_kind(self, before: Kind) -> Kind:
        """Say what the numbers are that tasks return."""

    def to_json(self) -> dict[str, Any]:
        """Write it down."""


@dataclass(frozen=True)
class AsIs:
    """No change."""

    name: ClassVar[str] = "as-is"

    def fit(self, minibatches: Iterable[Cells]) -> Transform:  # noqa: ARG002 - the protocol's signature
        """Learn nothing."""
        return self

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:  # noqa: ARG002 - the protocol's signature
        """Return the rows."""
        return x

    def kind(self, before: Kind) -> Kind:
        """Say that the numbers are what they were."""
        return before

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Return the numbers."""
        return x_ng

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Draw from p."""
        return p.sample()

    output_kind = kind

    def to_json(self) -> dict[str, Any]:
        """Write it down."""
        return {"name": self.name}


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

    def fit(self, minibatches: Iterable[Cells]) -> Transform:  # noqa: ARG002 - the protocol's signature
        """Learn nothing."""
        return self

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Scale each cell to the target and take log(1 + x)."""
        factor_n1 = self.target / size_n1.clamp(min=1)
        factor = factor_n1.squeeze(-1)[x.cell_e] if x.is_sparse else factor_n1
        return x.map(lambda values: torch.log1p(values * factor))

    def kind(self, before: Kind) -> Kind:  # noqa: ARG002 - the protocol's signature
        """Say that the numbers are log-normalised."""
        return Kind.LOG

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Return the logarithms."""
        return x_ng

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Draw logarithms from p."""
        return p.sample()

    output_kind = kind

    def to_json(self) -> dict[str, Any]:
        """Write it down."""
        return {"name": self.name, "target": self.target}


@dataclass(frozen=True, eq=False)
class Standardise:
    """(x − mean) / standard deviation of each gene, after another change.

    Parameters
    ----------
    inner
        What is done first.
    mean_g, scale_g
        Of the training cells, once it was fitted; a gene that does not vary is only centred.
    """

    inner: Transform
    mean_g: Tensor = field(default_factory=lambda: torch.zeros(1))
    scale_g: Tensor = field(default_factory=lambda: torch.ones(1))
    name: ClassVar[str] = "standardise"

    def fit(self, minibatches: Iterable[Cells]) -> Transform:
        """Learn mean and standard deviation in one pass, from the cells in which a gene was measured."""
        n, sum_g, square_g = torch.zeros(3, 1, dtype=torch.float64)
        for cells in minibatches:
            x_ng = self.inner.apply(cells.x, cells.condition.size_n1).dense().double()
            measured = cells.condition.measured_ng
            n = n + (cells.n_cells if measured is None else measured.sum(0))
            sum_g, square_g = sum_g + x_ng.sum(0), square_g + x_ng.square().sum(0)
        mean_g = sum_g / n.clamp(min=1)
        scale_g = (square_g / n.clamp(min=1) - mean_g.square()).clamp(min=0).sqrt()
        scale_g = scale_g.where(scale_g > 1e-6 * mean_g.abs().clamp(min=1e-3), 1.0)
        return Standardise(self.inner.fit(()), mean_g.float(), scale_g.float())

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Change, centre and scale; the result is dense."""
        return ExpressionRows.from_dense((self.inner.apply(x, size_n1).dense() - self.mean_g) / self.scale_g)

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:
        """Undo the scaling and the centring."""
        return self.inner.invert(x_ng * self.scale_g.to(x_ng) + self.mean_g.to(x_ng), size_n1)

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:
        """Draw from p, and undo the scaling and the centring."""
        return self.invert(p.sample(), size_n1)

    def kind(self, before: Kind) -> Kind:  # noqa: ARG002 - the protocol's signature
        """Say that the numbers are centred."""
        return Kind.SCALED

    def output_kind(self, before: Kind) -> Kind:
        """Say what the inner change makes of the numbers."""
        return self.inner.output_kind(before)

    def to_json(self) -> dict[str, Any]:
        """Write it down."""
        numbers = {"mean": self.mean_g.tolist(), "scale": self.scale_g.tolist()}
        return {"name": self.name, "inner": self.inner.to_json(), **numbers}
