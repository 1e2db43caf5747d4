"""Sources for tests: of a matrix, in memory or as if it were not."""

from __future__ import annotations

import pandas as pd

from genevae.io.formats import MemorySource

__all__ = ["Streamed", "make"]


class Streamed:
    """A source that is not in memory, and says how many rows were read at once."""

    def __init__(self, inner: MemorySource) -> None:
        self.inner, self.longest, self.n_read = inner, 0, 0
        self.name, self.genes, self.obs = "streamed", inner.genes, inner.obs
        self.aliases, self.panels = inner.aliases, inner.panels

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, rows):
        self.longest, self.n_read = max(self.longest, len(rows)), self.n_read + len(rows)
        return self.inner.read(rows)


def make(x, genes=None, name: str = "data") -> MemorySource:
    genes = tuple(genes or (f"G{i}" for i in range(x.shape[1])))
    return MemorySource(name, x, genes, pd.DataFrame(index=[f"c{i}" for i in range(x.shape[0])]))
