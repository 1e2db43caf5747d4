"""Orders of genes, for convolutional models, where neighbouring genes should be related."""

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

__all__ = ["ORDERS", "Ordered", "order_by_similarity"]

N_DIRECTIONS = 64
"""Dimensions of the random projection of correlations; distances are kept up to about 1/8."""
N_ITERATIONS = 12
"""Power iterations for a principal direction, which need not be exact."""


@dataclass(frozen=True, eq=False)
class Ordered:
    """Another transform, with the order in which a convolutional model arranges the genes.

    Parameters
    ----------
    inner
        The transform of the values.
    by
        A key of :data:`ORDERS`.
    order_g
        Gene indices in order; empty before fitting.
    """

    inner: Transform
    by: str
    order_g: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    name: ClassVar[str] = "ordered"

    def __post_init__(self) -> None:
        """Check the name of the order."""
        if self.by not in ORDERS:
            raise DataError(f"Unknown gene order '{self.by}'. {nearest(self.by, ORDERS)}")

    def fit(self, minibatches: Iterable[Cells]) -> Transform:
        """Fit the inner transform and the order. Iterates over the cells more than once."""
        return Ordered(self.inner.fit(minibatches), self.by, torch.from_numpy(ORDERS[self.by](minibatches)))

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Apply the inner transform."""
        return self.inner.apply(x, size_n1)

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:
        """Invert the inner transform."""
        return self.inner.invert(x_ng, size_n1)

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:
        """Sample as the inner transform does."""
        return self.inner.draw(p, size_n1)

    def kind(self, before: Kind) -> Kind:
        """Return the kind of the inner transform."""
        return self.inner.kind(before)

    def output_kind(self, before: Kind) -> Kind:
        """Return the output kind of the inner transform."""
        return self.inner.output_kind(before)

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        return {"name": self.name, "inner": self.inner.to_json(), "by": self.by, "order": self.order_g.tolist()}


def by_expression(minibatches: Iterable[Cells]) -> NDArray[np.int64]:
    """Order genes by mean log expression, highest first."""
    return np.argsort(-_moments(minibatches)[0], kind="stable")


def by_correlation(minibatches: Iterable[Cells]) -> NDArray[np.int64]:
    """Order genes so that genes with similar correlations to all genes are neighbours.

    With z the standardised log expression and Ω random, the rows of zᵀ(zΩ)/n = CΩ are random projections of the rows of
    the correlation matrix C. So distances between rows are kept without computing C.

    References
    ----------
    Johnson and Lindenstrauss, Contemporary Mathematics 26:189 (1984).
    """
    mean_g, scale_g = _moments(minibatches)
    directions = np.random.default_rng(0).normal(size=(len(mean_g), N_DIRECTIONS)).astype(np.float32)  # Ω
    projected = np.zeros_like(directions)
    n = 0
    for x_ng in _logged(minibatches):
        z_ng = ((x_ng - mean_g) / scale_g).astype(np.float32)
        projected += z_ng.T @ (z_ng @ directions)
        n += len(z_ng)
    return order_by_similarity(projected / max(n, 1))


ORDERS: dict[str, Callable[[Iterable[Cells]], NDArray[np.int64]]] = {
    "expression": by_expression,
    "correlation": by_correlation,
}


def order_by_similarity(points: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Order points so that close points are neighbours: sort along the principal direction, then each half again.

    Each half is sorted in the direction of the previous order, so that its end is close to the start of the next half.

    References
    ----------
    Boley, Data Mining and Knowledge Discovery 2:325 (1998): principal direction divisive partitioning.
    """
    order = np.arange(len(points))
    pending = [slice(0, len(points))]
    while pending:
        part = pending.pop()
        centred = points[order[part]] - points[order[part]].mean(0)
        score = centred @ _principal_direction(centred)
        if score @ np.arange(len(score)) < score.sum() * (len(score) - 1) / 2:  # opposite to the previous order
            score = -score
        order[part] = order[part][np.argsort(score, kind="stable")]
        middle = (part.start + part.stop) // 2
        pending += [
            half for half in (slice(part.start, middle), slice(middle, part.stop)) if half.stop - half.start > 2
        ]
    return order


def _principal_direction(points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the approximate first principal axis of centred points, by power iterations from the farthest point."""
    direction: NDArray[np.floating[Any]] = points[np.square(points).sum(1).argmax()]
    for _ in range(N_ITERATIONS):
        direction = (points @ direction) @ points
        direction = direction / max(np.sqrt(np.square(direction).sum()), 1e-30)
    return direction


def _logged(minibatches: Iterable[Cells]) -> Iterable[NDArray[np.float64]]:
    transform = LogNormalise()
    for cells in minibatches:
        yield transform.apply(cells.x, cells.condition.size_n1).dense().double().numpy()


def _moments(minibatches: Iterable[Cells]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each gene's log expression; the latter is one for constant genes."""
    n, sum_g, square_g = 0, np.zeros(1), np.zeros(1)
    for x_ng in _logged(minibatches):
        n, sum_g, square_g = n + len(x_ng), sum_g + x_ng.sum(0), square_g + np.square(x_ng).sum(0)
    mean_g = sum_g / max(n, 1)
    scale_g = np.sqrt(np.maximum(square_g / max(n, 1) - np.square(mean_g), 0))
    return mean_g, np.where(scale_g > 1e-6, scale_g, 1.0)
