"""Scaling of counts to values from zero to one, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from genevae.cells import Cells, ExpressionRows
from genevae.data.transforms.transform import Transform
from genevae.data.value_kind import Kind

__all__ = ["ScaleToUnit", "sample_multinomial"]


@dataclass(frozen=True, eq=False)
class ScaleToUnit:
    """(x / size) / highest: a gene's proportion in its cell, relative to its highest proportion in training cells.

    It is linear, so expectations can be inverted: x = unit · highest · size.

    Parameters
    ----------
    highest_g
        Highest proportion in the training cells, after fitting. Genes without counts get the lowest of the others.
    """

    highest_g: Tensor = field(default_factory=lambda: torch.ones(1))
    name: ClassVar[str] = "scale-to-unit"

    def fit(self, minibatches: Iterable[Cells]) -> Transform:
        """Find the highest proportions in one pass."""
        highest_g = torch.zeros(1)
        for cells in minibatches:
            highest_g = torch.maximum(highest_g, (cells.x.dense() / cells.condition.size_n1.clamp(min=1)).amax(0))
        present = highest_g > 0
        least = highest_g[present].min() if present.any() else torch.tensor(1.0)
        return ScaleToUnit(highest_g.where(present, least))

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Scale. The result is dense, and above one only where a proportion is above that of all training cells."""
        return ExpressionRows.from_dense(x.dense() / size_n1.clamp(min=1) / self.highest_g.to(size_n1))

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:
        """Return counts for cells of these sizes."""
        return x_ng * self.highest_g.to(x_ng) * size_n1.to(x_ng)

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:
        """Sample counts from a multinomial with the expected proportions.

        The noise comes from the multinomial, because p is a squared error, and does not model the noise of counts.
        """
        return sample_multinomial(self.invert(p.mean, size_n1), size_n1)

    def kind(self, before: Kind) -> Kind:  # noqa: ARG002 - the protocol's signature
        """Return "scaled"."""
        return Kind.SCALED

    def output_kind(self, before: Kind) -> Kind:
        """Return the kind of the data."""
        return before

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        return {"name": self.name, "highest": self.highest_g.tolist()}


def sample_multinomial(expected_ng: Tensor, size_n1: Tensor) -> Tensor:
    """Sample counts that sum to each cell's size: x ~ Multinomial(size, expected / Σ_g expected).

    Parameters
    ----------
    expected_ng
        Non-negative, and not all zero in a cell.
    size_n1
        Counts per cell, which are rounded.
    """
    generator = np.random.default_rng(int(torch.randint(2**62, ())))  # seeded from torch
    proportion_ng = expected_ng.double().cpu().numpy()
    proportion_ng = proportion_ng / proportion_ng.sum(-1, keepdims=True)
    counts = generator.multinomial(size_n1.squeeze(-1).round().long().cpu().numpy(), proportion_ng)
    return torch.from_numpy(counts).to(expected_ng)
