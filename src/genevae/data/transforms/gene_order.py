"""The order of genes, learned from cells, for models to which neighbours matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from genevae.cells import Cells, ExpressionRows
from genevae.data.transforms.transform import LogNormalise, Transform
from genevae.data.value_kind import Kind
from genevae.errors import DataError, nearest

__all__ = ["ORDERS", "Ordered", "along_neighbours"]

N_DIRECTIONS = 64
"""Random directions that correlations are looked at from: distances then keep to about an eighth."""
N_ITERATIONS = 12
"""Of the search for a principal direction, which need not be exact."""


@dataclass(frozen=True, eq=False)
class Ordered:
    """Another change, and the order in which a model is to lay the genes out; no number is changed by it.

    Parameters
    ----------
    inner
        What is done to the numbers.
    by
        A name of :data:`ORDERS`.
    order_g
        The genes' numbers, first to last, once it was fitted.
    """

    inner: Transform
    by: str
    order_g: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    name: ClassVar[str] = "ordered"

    def __post_init__(self) -> None:
        """Refuse an order that there is not."""
        if self.by not in ORDERS:
            raise DataError(f"There is no order of genes '{self.by}'. {nearest(self.by, ORDERS)}")

    def fit(self, minibatches: Iterable[Cells]) -> Transform:
        """Learn the inner change and the order; the cells are gone through more than once."""
        return Ordered(self.inner.fit(minibatches), self.by, torch.from_numpy(ORDERS[self.by](minibatches)))

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Do the inner change."""
        return self.inner.apply(x, size_n1)

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:
        """Undo the inner change."""
        return self.inner.invert(x_ng, size_n1)

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:
        """Draw as the inner change does."""
        return self.inner.draw(p, size_n1)

    def kind(self, before: Kind) -> Kind:
        """Say what the inner change makes of the numbers."""
        return self.inner.kind(before)

    def output_kind(self, before: Kind) -> Kind:
        """Say what the inner change returns."""
        return self.inner.output_kind(before)

    def to_json(self) -> dict[str, Any]:
        """Write it down."""
        return {"name": self.name, "inner": self.inner.to_json(), "by": self.by, "order": self.order_g.tolist()}


def by_expression(minibatches: Iterable[Cells]) -> NDArray[np.int64]:
    """Order genes by mean log expression, highest first."""
    return np.argsort(-_moments(minibatches)[0], kind="stable")


def by_correlation(minibatches: Iterable[Cells]) -> NDArray[np.int64]:
    """Order genes so that those whose correlations with all genes are alike are neighbours.

    With z the standardised log expression and Ω random, each row of zᵀ(zΩ)/n = CΩ is a random projection of the row of
    the correlation matrix C, so that distances between rows are kept without C ever being made.

    References
    ----------
    Johnson and Lindenstrauss, Contemporary Mathematics 26:189 (1984).
    """
    mean_g, scale_g = _moments(minibatches)
    directions = np.random.default_rng(0).normal(size=(len(mean_g), N_DIRECTIONS)).astype(np.float32)
    projected = np.zeros_like(directions)
    n = 0
    for x_ng in _logged(minibatches):
        z_ng = ((x_ng - mean_g) / scale_g).astype(np.float32)
        projected += z_ng.T @ (z_ng @ directions)
        n += len(z_ng)
    return along_neighbours(projected / max(n, 1))


ORDERS: dict[str, Callable[[Iterable[Cells]], NDArray[np.int64]]] = {
    "expression": by_expression,
    "correlation": by_correlation,
}


def along_neighbours(points: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Order points so that near ones are neighbours: sorted along their principal direction, then half by half again.

    Each half is turned the way in which the whole was sorted, so that its end meets the beginning of the next.

    References
    ----------
    Boley, Data Mining and Knowledge Discovery 2:325 (1998): principal direction divisive partitioning.
    """
    order = np.arange(len(points))
    pending = [slice(0, len(points))]
    while pending:
        part = pending.pop()
        here = points[order[part]] - points[order[part]].mean(0)
        along = here @ _principal_direction(here)
        if along @ np.arange(len(along)) < along.sum() * (len(along) - 1) / 2:  # against the order so far
            along = -along
        order[part] = order[part][np.argsort(along, kind="stable")]
        middle = (part.start + part.stop) // 2
        pending += [
            half for half in (slice(part.start, middle), slice(middle, part.stop)) if half.stop - half.start > 2
        ]
    return order


def _principal_direction(points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return about the direction along which centred points vary most: power iterations from the farthest point."""
    direction: NDArray[np.floating[Any]] = points[np.square(points).sum(1).argmax()]
    for _ in range(N_ITERATIONS):
        direction = (points @ direction) @ points
        direction = direction / max(np.sqrt(np.square(direction).sum()), 1e-30)
    return direction


def _logged(minibatches: Iterable[Cells]) -> Iterable[NDArray[np.float64]]:
    change = LogNormalise()
    for cells in minibatches:
        yield change.apply(cells.x, cells.condition.size_n1).dense().double().numpy()


def _moments(minibatches: Iterable[Cells]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of the log expression of each gene; one where it does not vary."""
    n, sum_g, square_g = 0, np.zeros(1), np.zeros(1)
    for x_ng in _logged(minibatches):
        n, sum_g, square_g = n + len(x_ng), sum_g + x_ng.sum(0), square_g + np.square(x_ng).sum(0)
    mean_g = sum_g / max(n, 1)
    scale_g = np.sqrt(np.maximum(square_g / max(n, 1) - np.square(mean_g), 0))
    return mean_g, np.where(scale_g > 1e-6, scale_g, 1.0)
