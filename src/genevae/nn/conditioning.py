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
    parts
        Of fields whose categories may be combinations, such as A+B: the codes that each category is the sum of.
    """

    def __init__(
        self,
        n_categories: Mapping[str, int],
        continuous: Sequence[str] = (),
        widths: Sequence[int] = (),
        parts: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        super().__init__()
        parts = parts or {}
        self.categorical = tuple(n_categories)
        self.continuous = tuple(continuous)
        rest = [embedding_width(n) for n in list(n_categories.values())[len(widths) :]]
        widths_of = [*widths, *rest][: len(n_categories)]
        self.embeddings = nn.ModuleList(
            Sums(parts[name], width) if name in parts else nn.Embedding(n, width)
            for (name, n), width in zip(n_categories.items(), widths_of, strict=True)
        )
        self.n_out = sum(widths_of) + len(self.continuous)

    def forward(self, condition: Condition) -> Tensor:
        """Return ``(n, n_out)``."""
        parts = [table(condition.codes[name]) for name, table in zip(self.categorical, self.embeddings, strict=True)]
        parts += [condition.values[name].unsqueeze(-1) for name in self.continuous]
        return torch.cat(parts, -1) if parts else condition.size_n1.new_zeros(condition.n_cells, 0)


class Sums(nn.Module):
    """Embeddings of categories of which some are the sums of others'.

    Parameters
    ----------
    parts
        The codes that each category is the sum of; its own, for one that is no combination.
    embedding_dim
        Width.
    """

    part_cm: Tensor

    def __init__(self, parts: Sequence[Sequence[int]], embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        single = sorted({code for codes in parts for code in codes})
        place = {code: at for at, code in enumerate(single)}
        most = max(map(len, parts))
        padded = [[place[code] for code in codes] + [len(single)] * (most - len(codes)) for codes in parts]
        self.register_buffer("part_cm", torch.tensor(padded), persistent=False)
        self.single = nn.Embedding(len(single) + 1, embedding_dim, padding_idx=len(single))

    def forward(self, code_n: Tensor) -> Tensor:
        """Return ``(n, embedding_dim)``."""
        embedding_nh: Tensor = self.single(self.part_cm[code_n]).sum(-2)
        return embedding_nh
