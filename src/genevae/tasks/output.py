"""The result of a task on cells: an AnnData object, or a store written block by block."""

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

__all__ = ["LIMITED", "TaskOutput", "csr_or_dense", "require_writable", "to_numpy", "values_uns"]


@dataclass(frozen=True)
class TaskOutput:
    """Blocks of rows, and the tables that belong to them.

    Parameters
    ----------
    obs
        One row per cell.
    genes
        The columns of X; empty if there is no X.
    blocks
        Rows of the elements that the task computes. They can be iterated over once.
    uns
        Unstructured annotation.
    """

    obs: pd.DataFrame
    genes: tuple[str, ...]
    blocks: Iterator[Block]
    uns: dict[str, Any] = field(default_factory=dict)

    def to_anndata(self, out: str | Path | None) -> AnnData:
        """Return an AnnData object. With ``out``, write a store instead and return an object with the tables only."""
        from anndata import AnnData

        var = pd.DataFrame(index=list(self.genes))
        if out is not None:
            from genevae.io.write.by_suffix import write_output

            write_output(Path(out), self.blocks, self.obs, var, self.uns)
            return AnnData(obs=self.obs, var=var, uns=self.uns)
        blocks: defaultdict[str, list[Any]] = defaultdict(list)
        for block in self.blocks:
            for name, rows in block.items():
                blocks[name].append(rows)
        elements = {name: _stack(rows) for name, rows in blocks.items()}
        columns = {name.removeprefix("obs/"): elements.pop(name) for name in list(elements) if name.startswith("obs/")}
        adata = AnnData(elements.pop("X", None), obs=self.obs.assign(**columns), var=var, uns=self.uns)
        for name, rows in elements.items():
            mapping, key = name.split("/", 1)
            getattr(adata, mapping)[key] = rows
        return adata


def _stack(rows: list[Any]) -> Any:
    return sparse.vstack(rows, format="csr") if sparse.issparse(rows[0]) else np.concatenate(rows)


def require_writable(out: str | Path | None, overwrite: bool) -> None:
    """Check, before the work begins, that ``out`` can be written."""
    if out is not None:
        from genevae.io.write.by_suffix import require_output

        require_output(Path(out), overwrite)


def to_numpy(x: Tensor) -> Any:
    """Copy a tensor to the CPU as an array."""
    return x.cpu().numpy()


def csr_or_dense(x: Tensor, as_csr: bool) -> Any:
    """Return rows as a CSR matrix or as a dense array."""
    return sparse.csr_matrix(to_numpy(x)) if as_csr else to_numpy(x)


LIMITED = (
    "Sampled counts are at most twice the largest of their gene among training cells, and 1.5 times the largest of all."
)
"""The note on counts that a model sampled."""


def values_uns(schema: Schema, limited: bool = False) -> dict[str, Any]:
    """Return the ``uns`` entry on the values: ``uns["genevae"]["values"]``, their kind; a note, if they are limited."""
    return {"genevae": {"values": str(schema.output_kind), **({"note": LIMITED} if limited else {})}}
