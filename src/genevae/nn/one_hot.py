"""A condition as a vector without anything to learn: one unit per category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from genevae.cells import Condition

__all__ = ["OneHot"]


class OneHot(nn.Module):
    """One unit per code of every categorical field, and the values of the continuous ones beside them.

    Parameters
    ----------
    n_codes
        Codes of each categorical field.
    continuous
        Names of the continuous fields.
    parts
        Of fields whose categories may be combinations, such as A+B: the codes that each code is the sum of. A
        combination lights the units of all its parts.
    """

    def __init__(
        self,
        n_codes: Mapping[str, int],
        continuous: Sequence[str] = (),
        parts: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        super().__init__()
        self.categorical, self.continuous = tuple(n_codes), tuple(continuous)
        self.n_out = sum(n_codes.values()) + len(self.continuous)
        for at, (name, n) in enumerate(n_codes.items()):
            units_cc = torch.eye(n)
            for code, codes in enumerate((parts or {}).get(name, ())):
                units_cc[code] = units_cc.new_zeros(n).index_fill(0, torch.tensor(codes), 1.0)
            self.register_buffer(f"units_{at}", units_cc, persistent=False)

    def forward(self, condition: Condition) -> Tensor:
        """Return ``(n, n_out)``."""
        lit = [self.get_buffer(f"units_{at}")[condition.codes[name]] for at, name in enumerate(self.categorical)]
        lit += [condition.values[name].unsqueeze(-1) for name in self.continuous]
        return torch.cat(lit, -1) if lit else condition.size_n1.new_zeros(condition.n_cells, 0)
