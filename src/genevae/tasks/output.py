"""The result of a task on cells: an AnnData object, or a store written block by block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from genevae.data.genes import gene_columns
from genevae.data.schema import Schema
from genevae.engine import Block, Plan, Workers
from genevae.errors import RunError, warn
from genevae.io.formats import open_source

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "LIMITED",
    "TaskOutput",
    "csr_or_dense",
    "free_column",
    "in_columns_of",
    "joined",
    "require_writable",
    "to_numpy",
    "values_uns",
]


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
        Rows of the elements: how they are computed, or the rows themselves, which can be iterated over once.
    uns
        Unstructured annotation.
    name
        What X is called as a layer of another file; other layers and columns begin with it.
    varm
        Tables of genes. They are not added to another file.
    like
        The data that the task was given. Of an AnnData object the result keeps the columns of var, obsm, and the
        colours of categories.
    titles
        Other names of obs columns that the pass computes.
    """

    obs: pd.DataFrame
    genes: tuple[str, ...]
    blocks: Plan | Generator[Block, None, None]
    uns: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    varm: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    like: object = None
    titles: Mapping[str, str] = field(default_factory=dict)

    def to_anndata(
        self,
        out: str | Path | None,
        into: str | Path | None = None,
        overwrite: bool = False,
        executor: Workers | None = None,
    ) -> AnnData:
        """Return an AnnData object. With ``out`` or ``into``, write the result, and return its tables only."""
        blocks = self.blocks
        if isinstance(blocks, Plan):
            blocks = blocks.blocks(executor, out if into is None else into)
        with closing(blocks):  # also where writing fails: they are computed without gradients, until they end
            return self._collected(blocks, out, into, overwrite)

    def _collected(
        self, blocks: Iterable[Block], out: str | Path | None, into: str | Path | None, overwrite: bool
    ) -> AnnData:
        from anndata import AnnData

        var, obsm, colours = _kept(self.like, self.genes, len(self.obs))
        uns = {**colours, **self.uns}
        columns: defaultdict[str, list[Any]] = defaultdict(list)
        passing = self._noting(blocks, columns)
        if into is not None:
            self._write_into(passing, Path(into), overwrite)
            return AnnData(obs=self._with(columns), var=var, uns=uns, varm=dict(self.varm))
        if out is not None:
            from genevae.io.write.by_suffix import write_output

            others = {f"varm/{name}": table for name, table in self.varm.items()}
            others |= {f"obsm/{name}": rows for name, rows in obsm.items()}
            write_output(Path(out), passing, self.obs, var, uns, others)
            return AnnData(obs=self._with(columns), var=var, uns=uns, varm=dict(self.varm))
        elements = {name: rows for name, rows in joined(passing).items() if not name.startswith("obs/")}
        adata = AnnData(
            elements.pop("X", None), obs=self._with(columns), var=var, uns=uns, varm=dict(self.varm), obsm=obsm
        )
        for name, rows in elements.items():
            mapping, key = name.split("/", 1)
            getattr(adata, mapping)[key] = rows
        return adata

    def _noting(self, blocks: Iterable[Block], columns: defaultdict[str, list[Any]]) -> Iterator[Block]:
        """Pass blocks on, elements in the format of their first rows; note obs columns, which the tables have too."""
        is_csr: dict[str, bool] = {}
        for block in blocks:
            named = {}
            for element, rows in block.items():
                place, _, key = element.partition("/")
                if place == "obs":
                    title = self.titles.get(key, key)
                    columns[title].append(rows)
                    named[f"obs/{title}"] = rows
                else:
                    csr = is_csr.setdefault(element, sparse.issparse(rows))
                    named[element] = rows if sparse.issparse(rows) == csr else _other_format(rows)
            yield named

    def _with(self, columns: Mapping[str, list[Any]]) -> pd.DataFrame:
        """Return obs with the columns that blocks had."""
        return self.obs.assign(**{name: _stack(rows) for name, rows in columns.items()})

    def _write_into(self, blocks: Iterable[Block], path: Path, overwrite: bool) -> None:
        """Add the result to an h5ad file of the same cells."""
        from genevae.io.read_options import ReadOptions
        from genevae.io.write.into import write_into

        columns = np.empty(0, dtype=np.int64)
        if self.genes:
            target = open_source(ReadOptions(path, keep="disk", layer=_any_layer(path)))
            columns = gene_columns(target, self.genes, allow_missing=True)
        uns = {f"{key}_{self.name}" if self.name else key: value for key, value in self.uns.items()}
        named = ({self._named(element): rows for element, rows in block.items()} for block in blocks)
        write_into(path, named, self.obs.index, columns, uns, overwrite)

    def _named(self, element: str) -> str:
        """Return the name of an element in another file."""
        if element == "X":
            return f"layers/{self.name}"
        place, key = element.split("/", 1)
        return element if place == "obsm" or not self.name else f"{place}/{self.name}_{key}"


def _kept(data: object, genes: Sequence[str], n: int) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    """Return what a result keeps of an AnnData object: var, obsm if the cells are the same, and colours."""
    from anndata import AnnData

    var = pd.DataFrame(index=list(genes))
    if not isinstance(data, AnnData):
        return var, {}, {}
    if len(genes) and data.var_names.is_unique:
        var = data.var.reindex(var.index)
    colours = {key: value for key, value in data.uns.items() if key.endswith("_colors")}
    obsm = {key: rows for key, rows in data.obsm.items() if not key.startswith("X_genevae")}
    return var, obsm if data.n_obs == n else {}, colours


def in_columns_of(data: Any, result: AnnData) -> NDArray[np.float32]:
    """Return X of a result in the columns of the data, NaN in those of genes that the result lacks."""
    from anndata import AnnData

    names = AnnData(np.zeros((0, data.n_vars), np.float32), var=data.var)  # without its expression
    column_g = gene_columns(open_source(names), tuple(result.var_names), allow_missing=True)
    x_ng = result.X.toarray() if sparse.issparse(result.X) else np.asarray(result.X)
    all_ng = np.full(data.shape, np.nan, dtype=np.float32)
    all_ng[:, column_g >= 0] = x_ng[:, column_g[column_g >= 0]]
    return all_ng


def _any_layer(path: Path) -> str | None:
    """Return a layer by which a file can be opened that has no X."""
    from genevae.io.lowlevel.hdf5 import open_hdf5

    with open_hdf5(path) as file:
        return None if "X" in file else next(iter(file.get("layers", {})), None)


def _other_format(rows: Any) -> Any:
    return rows.toarray() if sparse.issparse(rows) else sparse.csr_matrix(rows)


def joined(blocks: Iterable[Block]) -> dict[str, Any]:
    """Join the rows of all blocks, by element."""
    rows_of: defaultdict[str, list[Any]] = defaultdict(list)
    for block in blocks:
        for name, rows in block.items():
            rows_of[name].append(rows)
    return {name: _stack(rows) for name, rows in rows_of.items()}


def _stack(rows: list[Any]) -> Any:
    return sparse.vstack(rows, format="csr") if sparse.issparse(rows[0]) else np.concatenate(rows)


def free_column(obs: pd.DataFrame, name: str) -> str:
    """Return the name of a new obs column: the given one or, where the user has such a column, genevae_NAME."""
    free = name
    while free in obs:
        free = f"genevae_{free}"
    if free != name:
        warn(f"obs has a column '{name}', which is kept: the result is in '{free}'.")
    return free


def require_writable(out: str | Path | None, overwrite: bool, *reads: object, into: str | Path | None = None) -> None:
    """Check, before the work begins, that ``out`` can be written and is nothing that is read; or ``into`` written."""
    if into is not None:
        from genevae.io.write.into import require_into

        if out is not None:
            raise RunError("Give out, a file of its own (--out), or into, a file to add to (--into), not both.")
        require_into(Path(into))
    if out is not None:
        from genevae.io.write.by_suffix import require_output

        require_output(Path(out), overwrite, reads)


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
