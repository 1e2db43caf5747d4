"""A condition as a vector: embeddings of the categorical fields beside the continuous ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from genevae.cells import Condition

__all__ = ["Conditioning", "embedding_width"]


def embedding_width(n_categories: int) -> int:
    """Width of an embedding when the recipe leaves it open: one per category, up to sixteen.

    >>> [embedding_width(n) for n in (1, 2, 40)]
    [1, 2, 16]
    """
    return min(n_categories, 16)


class Conditioning(nn.Module):
    """Embed the codes of every categorical field, and append the values of every continuous one.

    Parameters
    ----------
    n_categories
        Categories of each categorical field.
    continuous
        Names of the continuous fields.
    widths
        Width of each categorical field's embedding, in the order of ``n_categories``; where it is shorter,
        :func:`embedding_width` fills in.
    """

    def __init__(
        self, n_categories: Mapping[str, int], continuous: Sequence[str] = (), widths: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.categorical = tuple(n_categories)
        self.continuous = tuple(continuous)
        rest = [embedding_width(n) for n in list(n_categories.values())[len(widths) :]]
        self.embeddings = nn.ModuleList(
            nn.Embedding(n, width)
            for n, width in zip(n_categories.values(), [*widths, *rest][: len(n_categories)], strict=True)
        )
        self.n_out = sum(table.embedding_dim for table in self._tables()) + len(self.continuous)

    def _tables(self) -> list[nn.Embedding]:
        return [table for table in self.embeddings if isinstance(table, nn.Embedding)]

    def forward(self, condition: Condition) -> Tensor:
        """Return ``(n, n_out)``."""
        parts = [table(condition.codes[name]) for name, table in zip(self.categorical, self._tables(), strict=True)]
        parts += [condition.values[name].unsqueeze(-1) for name in self.continuous]
        return torch.cat(parts, -1) if parts else condition.size_n1.new_zeros(condition.n_cells, 0)
