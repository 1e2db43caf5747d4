"""Counts as numbers from nought to one, and back to counts."""

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

__all__ = ["ScaleToUnit", "shared_out"]


@dataclass(frozen=True, eq=False)
class ScaleToUnit:
    """(x / size) / highest: a gene's share of its cell's counts, over the highest share in any training cell.

    It is linear, so that what a model expects can be taken back to counts: x = unit · highest · size.

    Parameters
    ----------
    highest_g
        Of the training cells, once it was fitted. A gene that none of them has is given the lowest of the others'.
    """

    highest_g: Tensor = field(default_factory=lambda: torch.ones(1))
    name: ClassVar[str] = "scale-to-unit"

    def fit(self, minibatches: Iterable[Cells]) -> Transform:
        """Learn the highest shares in one pass."""
        highest_g = torch.zeros(1)
        for cells in minibatches:
            highest_g = torch.maximum(highest_g, (cells.x.dense() / cells.condition.size_n1.clamp(min=1)).amax(0))
        present = highest_g > 0
        least = highest_g[present].min() if present.any() else torch.tensor(1.0)
        return ScaleToUnit(highest_g.where(present, least))

    def apply(self, x: ExpressionRows, size_n1: Tensor) -> ExpressionRows:
        """Scale; the result is dense, and above one only where a cell has more of a gene than any training cell."""
        return ExpressionRows.from_dense(x.dense() / size_n1.clamp(min=1) / self.highest_g.to(size_n1))

    def invert(self, x_ng: Tensor, size_n1: Tensor) -> Tensor:
        """Return the counts of cells of these sizes."""
        return x_ng * self.highest_g.to(x_ng) * size_n1.to(x_ng)

    def draw(self, p: Distribution, size_n1: Tensor) -> Tensor:
        """Share each cell's counts out in proportion to what p expects.

        p says how squared errors were weighed, and not how counts scatter: that is what the sharing out is for.
        """
        return shared_out(self.invert(p.mean, size_n1), size_n1)

    def kind(self, before: Kind) -> Kind:  # noqa: ARG002 - the protocol's signature
        """Say that the numbers are scaled."""
        return Kind.SCALED

    def output_kind(self, before: Kind) -> Kind:
        """Say that the way back leads to what the numbers were."""
        return before

    def to_json(self) -> dict[str, Any]:
        """Write it down."""
        return {"name": self.name, "highest": self.highest_g.tolist()}


def shared_out(expected_ng: Tensor, size_n1: Tensor) -> Tensor:
    """Draw counts of genes that sum to each cell's size: x ~ Multinomial(size, expected / Σ_g expected).

    Parameters
    ----------
    expected_ng
        Not negative, and not all zero in a cell.
    size_n1
        Counts of each cell; rounded.
    """
    generator = np.random.default_rng(int(torch.randint(2**62, ())))  # as torch was seeded
    share_ng = expected_ng.double().cpu().numpy()
    share_ng = share_ng / share_ng.sum(-1, keepdims=True)
    counts = generator.multinomial(size_n1.squeeze(-1).round().long().cpu().numpy(), share_ng)
    return torch.from_numpy(counts).to(expected_ng)
