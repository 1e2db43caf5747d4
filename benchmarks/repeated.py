"""Any number of cells: those of a real file, over and over, without copying them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["DATA", "Repeated"]

DATA = Path(os.environ.get("GENEVAE_DATA", "../shared/data")) / "kang_merged.h5ad"


@dataclass(frozen=True)
class Repeated:
    """So many cells: those of a file, over and over."""

    path: Path
    n: int
    name = "repeated"
    aliases, panels = {}, None

    @cached_property
    def source(self) -> Any:
        """The cells of the file, on disk."""
        from genevae.io.formats import ReadOptions, open_source

        return open_source(ReadOptions(self.path, keep="disk"))

    @property
    def genes(self) -> tuple[str, ...]:
        """The genes of the file."""
        return self.source.genes

    @cached_property
    def obs(self) -> pd.DataFrame:
        """The table of the file, with the cells numbered."""
        obs = self.source.obs
        names = np.fromiter(map(str, range(self.n)), object, self.n)
        return obs.iloc[np.arange(self.n) % len(obs)].set_axis(pd.Index(names))

    def __len__(self) -> int:
        return self.n

    def read(self, rows: np.ndarray) -> Any:
        """Read rows where they are in the file."""
        return self.source.read(rows % len(self.source))

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "n": self.n}
