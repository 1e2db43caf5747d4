"""What a task that answers about cells gives back: an AnnData object, or a store that is written as it comes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from torch import Tensor

from genevae.data.schema import Schema

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.write.anndata import Block

__all__ = ["Answer", "numbers", "require_writable", "sparsely", "values_note"]


@dataclass(frozen=True)
class Answer:
    """Rows that come piece by piece, and the tables beside them.

    Parameters
    ----------
    obs
        One row per cell.
    genes
        The columns of X; none where there is no X.
    pieces
        Rows of the elements that the task makes, to be asked for once.
    uns
        What else is to be said.
    """

    obs: pd.DataFrame
    genes: tuple[str, ...]
    pieces: Iterator[Block]
    uns: dict[str, Any] = field(default_factory=dict)

    def give(self, out: str | Path | None) -> AnnData:
        """Return an AnnData object, or write a store and return its tables only."""
        from anndata import AnnData

        var = pd.DataFrame(index=list(self.genes))
        if out is not None:
            from genevae.io.write.by_suffix import write_output

            write_output(Path(out), self.pieces, self.obs, var, self.uns)
            return AnnData(obs=self.obs, var=var, uns=self.uns)
        elements: defaultdict[str, list[Any]] = defaultdict(list)
        for piece in self.pieces:
            for name, rows in piece.items():
                elements[name].append(rows)
        whole = {name: _under(rows) for name, rows in elements.items()}
        columns = {name.removeprefix("obs/"): whole.pop(name) for name in list(whole) if name.startswith("obs/")}
        adata = AnnData(whole.pop("X", None), obs=self.obs.assign(**columns), var=var, uns=self.uns)
        for name, rows in whole.items():
            place, key = name.split("/", 1)
            getattr(adata, place)[key] = rows
        return adata


def _under(rows: list[Any]) -> Any:
    return sparse.vstack(rows, format="csr") if sparse.issparse(rows[0]) else np.concatenate(rows)


def require_writable(out: str | Path | None, overwrite: bool) -> None:
    """Make sure, before the work begins, that an answer can be written where one was asked for."""
    if out is not None:
        from genevae.io.write.by_suffix import require_output

        require_output(Path(out), overwrite)


def numbers(x: Tensor) -> Any:
    """Bring a tensor to the CPU, as an array."""
    return x.cpu().numpy()


def sparsely(x: Tensor, as_csr: bool) -> Any:
    """Give rows as CSR or dense."""
    return sparse.csr_matrix(numbers(x)) if as_csr else numbers(x)


def values_note(schema: Schema) -> dict[str, Any]:
    """Say what the values of an answer are, as ``uns["genevae"]["values"]``."""
    return {"genevae": {"values": str(schema.answers_in)}}
