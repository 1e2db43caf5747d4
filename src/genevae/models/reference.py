"""What a model remembers of its training cells: where each lay in the latent, and under which condition."""

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
    """Posteriors of some training cells and the conditions they were seen in: the aggregate posterior.

    It lets a model generate where the training cells were, and say how far a question is from them, without the
    training data.

    Parameters
    ----------
    mean_nk, scale_nk
        Of q(z | x, c).
    condition
        Codes, values and size of the same cells.
    """

    mean_nk: Tensor
    scale_nk: Tensor
    condition: Condition

    @property
    def n_cells(self) -> int:
        """Number of remembered cells."""
        return len(self.mean_nk)

    def agreement_n(self, codes: Mapping[str, int]) -> Tensor:
        """Count the given fields in which each remembered cell agrees with the given codes."""
        agreement = torch.zeros(self.n_cells, dtype=torch.int64, device=self.mean_nk.device)
        for name, code in codes.items():
            agreement += self.condition.codes[name] == code
        return agreement

    def nearest_rows(self, codes: Mapping[str, int]) -> Tensor:
        """Return the remembered cells that agree in as many of the given fields as any does."""
        agreement_n = self.agreement_n(codes)
        return (agreement_n == agreement_n.max()).nonzero().squeeze(-1)

    def take(self, row_n: Tensor) -> Self:
        """Return some of the cells."""
        return type(self)(self.mean_nk[row_n], self.scale_nk[row_n], self.condition.map(lambda t: t[row_n]))

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return type(self)(self.mean_nk.to(device), self.scale_nk.to(device), self.condition.map(lambda t: t.to(device)))

    def to_tensors(self) -> dict[str, Tensor]:
        """Write it down as named tensors."""
        return {
            "mean_nk": self.mean_nk,
            "scale_nk": self.scale_nk,
            "size_n1": self.condition.size_n1,
            **{f"codes/{name}": codes for name, codes in self.condition.codes.items()},
            **{f"values/{name}": values for name, values in self.condition.values.items()},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Read it back."""
        fields = {
            kind: {name.removeprefix(f"{kind}/"): t for name, t in tensors.items() if name.startswith(f"{kind}/")}
            for kind in ("codes", "values")
        }
        return cls(
            tensors["mean_nk"], tensors["scale_nk"], Condition(tensors["size_n1"], fields["codes"], fields["values"])
        )
