"""Reference cells: posteriors and conditions of training cells, kept with the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from genevae.cells import Condition

__all__ = ["Reference"]


@dataclass(frozen=True)
class Reference:
    """Posteriors of some training cells with their conditions: the aggregate posterior.

    With it, a model can generate cells like the training cells, and measure how close a prediction is to them, without
    the training data.

    Parameters
    ----------
    mean_nk, scale_nk
        Mean and standard deviation of q(z | x, c).
    condition
        Codes, values and sizes of the same cells.
    """

    mean_nk: Tensor
    scale_nk: Tensor
    condition: Condition

    @property
    def n_cells(self) -> int:
        """Number of reference cells."""
        return len(self.mean_nk)

    def agreement_n(self, codes: Mapping[str, int]) -> Tensor:
        """Return the number of given fields in which each reference cell has the given code."""
        agreement = torch.zeros(self.n_cells, dtype=torch.int64, device=self.mean_nk.device)
        for name, code in codes.items():
            agreement += self.condition.codes[name] == code
        return agreement

    def nearest_rows(self, codes: Mapping[str, int]) -> Tensor:
        """Return the rows of the reference cells that agree in the largest number of the given fields."""
        agreement_n = self.agreement_n(codes)
        return (agreement_n == agreement_n.max()).nonzero().squeeze(-1)

    def take(self, row_n: Tensor) -> Self:
        """Return the cells of these rows."""
        return type(self)(self.mean_nk[row_n], self.scale_nk[row_n], self.condition.map(lambda t: t[row_n]))

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return type(self)(self.mean_nk.to(device), self.scale_nk.to(device), self.condition.map(lambda t: t.to(device)))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the content as named tensors."""
        return {
            "mean_nk": self.mean_nk,
            "scale_nk": self.scale_nk,
            "size_n1": self.condition.size_n1,
            **{f"codes/{name}": codes for name, codes in self.condition.codes.items()},
            **{f"values/{name}": values for name, values in self.condition.values.items()},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Restore from named tensors."""
        fields = {
            kind: {name.removeprefix(f"{kind}/"): t for name, t in tensors.items() if name.startswith(f"{kind}/")}
            for kind in ("codes", "values")
        }
        return cls(
            tensors["mean_nk"], tensors["scale_nk"], Condition(tensors["size_n1"], fields["codes"], fields["values"])
        )
