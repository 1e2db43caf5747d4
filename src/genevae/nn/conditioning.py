"""A condition as a vector: embeddings of the categorical fields beside the continuous ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from genevae.cells import Condition

__all__ = ["Conditioning", "Deviations", "Projected", "Vectors", "embedding_width", "table_of"]

Vectors = Sequence[Sequence[float] | None]
"""The vector of each category, None where it has none."""
N_HIDDEN, START = 32, 0.1
"""Hidden units between the vector of a category and its embedding, and the size of the embeddings at the start.

They are small, since nothing in training corrects the embedding of a vector that no cell has.
"""


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
    outer
        Of fields that are nested in others and pooled: the code of the outer category of each of their categories, for
        each field that they are nested in. See :class:`Deviations`.
    vectors
        Of fields whose categories are known by a vector: that of each category. See :class:`Projected`.
    """

    def __init__(
        self,
        n_categories: Mapping[str, int],
        continuous: Sequence[str] = (),
        widths: Sequence[int] = (),
        parts: Mapping[str, Sequence[Sequence[int]]] | None = None,
        outer: Mapping[str, Sequence[Sequence[int]]] | None = None,
        vectors: Mapping[str, Vectors] | None = None,
    ) -> None:
        super().__init__()
        parts, outer, vectors = parts or {}, outer or {}, vectors or {}
        self.categorical = tuple(n_categories)
        self.continuous = tuple(continuous)
        rest = [embedding_width(n) for n in list(n_categories.values())[len(widths) :]]
        widths_of = [*widths, *rest][: len(n_categories)]
        self.embeddings = nn.ModuleList(
            Sums(parts[name], width, vectors.get(name))
            if name in parts
            else Deviations(outer[name], n, width)
            if name in outer and name not in vectors
            else table_of(n, width, vectors.get(name))
            for (name, n), width in zip(n_categories.items(), widths_of, strict=True)
        )
        self.n_out = sum(widths_of) + len(self.continuous)

    def forward(self, condition: Condition) -> Tensor:
        """Return ``(n, n_out)``."""
        parts = [table(condition.codes[name]) for name, table in zip(self.categorical, self.embeddings, strict=True)]
        parts += [condition.values[name].unsqueeze(-1) for name in self.continuous]
        return torch.cat(parts, -1) if parts else condition.size_n1.new_zeros(condition.n_cells, 0)


class Deviations(nn.Module):
    """Embeddings of nested categories, whose mean within every outer category is zero: (I − A A⁺) E.

    A has one column for every outer category, with ones where it contains a category. So what all experiments of a
    perturbation share is said by the perturbation alone. A category that is alone in an outer one, or unknown, gets
    zeros.

    Parameters
    ----------
    outer
        The code of the outer category of each category (−1 for none), for each outer field.
    n_codes
        Codes: the categories, and the unknown one if there is one.
    embedding_dim
        Width.
    """

    within_cc: Tensor

    def __init__(self, outer: Sequence[Sequence[int]], n_codes: int, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        outer_fc = np.array([list(each) for each in outer])
        n = outer_fc.shape[1]
        a = np.concatenate([outer_c[:, None] == np.unique(outer_c) for outer_c in outer_fc], 1).astype(np.float64)
        within_cc = np.zeros((n_codes, n_codes), dtype=np.float32)
        within_cc[:n, :n] = np.eye(n) - a @ np.linalg.pinv(a)
        self.register_buffer("within_cc", torch.from_numpy(within_cc), persistent=False)
        self.free = nn.Embedding(n_codes, embedding_dim)

    def forward(self, code_n: Tensor) -> Tensor:
        """Return ``(n, embedding_dim)``."""
        return (self.within_cc @ self.free.weight)[code_n]


class Projected(nn.Module):
    """Embeddings of categories from their vectors v: W₂ tanh(W₁ v + b₁) + b₂. So categories without cells have one too.

    Parameters
    ----------
    vectors
        The vector of each category. One without, such as the control, has an embedding of its own.
    embedding_dim
        Width.
    """

    vector_cf: Tensor
    free_c: Tensor

    def __init__(self, vectors: Vectors, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        n_features = max((len(each) for each in vectors if each is not None), default=0)
        numbers = np.array([[0.0] * n_features if each is None else each for each in vectors], dtype=np.float32)
        without = np.array([each is None for each in vectors])
        self.register_buffer("vector_cf", torch.from_numpy(numbers), persistent=False)
        free_c = np.where(without, np.cumsum(without) - 1, without.sum())
        self.register_buffer("free_c", torch.from_numpy(free_c), persistent=False)
        self.free = nn.Embedding(int(without.sum()), embedding_dim)
        self.network = nn.Sequential(nn.Linear(n_features, N_HIDDEN), nn.Tanh(), nn.Linear(N_HIDDEN, embedding_dim))
        with torch.no_grad():
            for parameter in (*self.network[-1].parameters(), *self.free.parameters()):
                parameter.mul_(START)

    def forward(self, code_n: Tensor) -> Tensor:
        """Return ``(…, embedding_dim)``."""
        projected: Tensor = self.network(self.vector_cf[code_n])
        free_n, n_free = self.free_c[code_n], self.free.num_embeddings
        if not n_free:
            return projected
        return torch.where((free_n < n_free).unsqueeze(-1), self.free(free_n.clamp(max=n_free - 1)), projected)


def table_of(n_codes: int, width: int, vectors: Vectors | None = None) -> nn.Module:
    """Return a free embedding of each category, or one from its vector where there are vectors."""
    return nn.Embedding(n_codes, width) if vectors is None else Projected(vectors, width)


class Sums(nn.Module):
    """Embeddings of categories of which some are the sums of others'.

    Parameters
    ----------
    parts
        The codes that each category is the sum of; its own, for one that is no combination.
    embedding_dim
        Width.
    vectors
        The vector of each category, where they have some.
    """

    part_cm: Tensor

    def __init__(self, parts: Sequence[Sequence[int]], embedding_dim: int, vectors: Vectors | None = None) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        single = sorted({code for codes in parts for code in codes})
        place = {code: at for at, code in enumerate(single)}
        most = max(map(len, parts))
        padded = [[place[code] for code in codes] + [len(single)] * (most - len(codes)) for codes in parts]
        self.register_buffer("part_cm", torch.tensor(padded), persistent=False)
        self.single: nn.Module
        if vectors is None:
            self.single = nn.Embedding(len(single) + 1, embedding_dim, padding_idx=len(single))
        else:
            self.single = Projected([*(vectors[code] for code in single), None], embedding_dim)
        self.n_single = len(single)

    def forward(self, code_n: Tensor) -> Tensor:
        """Return ``(n, embedding_dim)``."""
        part_nm = self.part_cm[code_n]
        is_part_nm1 = (part_nm < self.n_single).unsqueeze(-1)
        embedding_nh: Tensor = (self.single(part_nm) * is_part_nm1).sum(-2)
        return embedding_nh
