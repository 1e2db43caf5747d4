"""Inspection of data before training: kind of values, covariates, problems, and a suggested recipe."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from genevae.calls import public
from genevae.data.levels import without_names
from genevae.data.value_kind import LEVEL, Kind, detect_kind, finite, is_integer, sample_rows, spread, totals
from genevae.errors import DataError, GenevaeError, RecipeError, shorten
from genevae.io.extras import matrices_of
from genevae.io.formats import ReadOptions, open_source
from genevae.io.h5ad import from_anndata, matrix, storage_of
from genevae.io.source import Source
from genevae.io.tables.orientation import describes_samples
from genevae.preprocessing.reading_time import reading_time

__all__ = ["Finding", "Inspection", "check_likelihood", "detect_kind", "inspect"]

_BULK_SIZE = 1e6
"""Totals per cell above this are those of bulk RNA-seq."""
_MANY_GENES, _BULK_DENSITY = 1000, 0.6
"""Of as many genes a cell has fewer than this share, and a bulk sample more."""
_EXACT = 2**24
"""Every integer up to this one is exact in float32."""
_POISSON = 1.25
"""Ratio of the variance to that of Poisson noise below which counts are taken as Poisson."""
_DATE = re.compile(
    r"\d{1,2}[-/](mar|sept?|dec|oct|apr|feb|nov)([-/]\d{2,4})?|(mar|sept?|dec|oct|apr|feb|nov)[-/]\d{1,4}"
    r"|\d{4}[-/]\d{1,2}[-/]\d{1,2}( 00:00:00)?|\d{1,2}/\d{1,2}/\d{2,4}|\d\.\d+E\+\d+",
    re.IGNORECASE,
)
"""What spreadsheets make of symbols such as SEPT2, MARCH1 and 2310009E13."""

_SAMPLE, _WHOLE, _BLOCK, _PROBE = 2000, 100_000, 2000, 200
"""Cells that the kind is detected from, that figures are of at most, that are read at once, and of other layers."""
_NAMED, _SCREEN = 5, 24
"""Categories that are named, and lines of the representation."""
_LEVELS = ("error", "warning", "note")

_Values = NDArray[np.float64]
_Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """A finding about the data.

    Parameters
    ----------
    level
        ``error``: training cannot work; ``warning``: results may be poor; ``note``: information.
    text
        The finding, and what to do.
    """

    level: _Level
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"


@dataclass(frozen=True, repr=False)
class Inspection:
    """The result of :func:`inspect`. Shape and obs are of all cells; the kind and the findings are of a sample.

    Parameters
    ----------
    name
        Name of the data.
    n_cells, n_genes
        Their shape.
    n_sampled
        Number of cells that density, median total and largest value are of: all, unless there are very many.
    density
        Share of non-zero entries.
    kind
        Kind of the values.
    median_size
        Median total per cell.
    max_value
        The largest value.
    storage
        Format of the matrix: csr, csc or dense.
    covariates
        For each obs column, its number of levels or, if it is numeric, its range.
    categories
        For each obs column that is not numeric, its commonest categories with their numbers of cells.
    layers
        What each other matrix holds (layers, raw, X), by the name that ``layer`` takes.
    obsm
        The number of columns of each array in obsm.
    findings
        The findings, the most severe first.
    recipe
        The recipe to try first.
    """

    name: str
    n_cells: int
    n_genes: int
    n_sampled: int
    density: float
    kind: Kind
    median_size: float
    max_value: float
    storage: str
    covariates: Mapping[str, int | tuple[float, float]]
    findings: tuple[Finding, ...]
    recipe: str
    categories: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    obsm: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        lines = str(self).splitlines()
        more = f"  … print it to see all {len(lines)} lines"
        return "\n".join(lines if len(lines) <= _SCREEN else [*lines[: _SCREEN - 1], more])

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th style='text-align:left'>{escape(head)}</th><td style='text-align:left'>{escape(text)}</td></tr>"
            for head, text in self._paragraphs()
        )
        return f"<b>{escape(self._title)}</b><table>{''.join(rows)}</table>"

    def __str__(self) -> str:
        return "\n".join([self._title, *(_paragraph(head, text) for head, text in self._paragraphs())])

    @property
    def _title(self) -> str:
        return f"{self.name}: {self.n_cells:,} cells × {self.n_genes:,} genes"

    def _paragraphs(self) -> list[tuple[str, str]]:
        sampled = "" if self.n_sampled == self.n_cells else f", in a sample of {self.n_sampled:,} cells"
        obsm = ", ".join(f"{name} ({n})" for name, n in self.obsm.items())
        return [
            (
                "values",
                f"{self.kind}; largest {_short(self.max_value)}; median total {_short(self.median_size)} per cell",
            ),
            ("storage", f"{self.storage}, {self.density:.1%} not zero{sampled}"),
            *(
                ("" if number else "layers", f"{name}: {holds}; to use it: --layer {name}, or layer={name!r}")
                for number, (name, holds) in enumerate(self.layers.items())
            ),
            *([("obsm", f"{obsm}: coordinates, which are not trained on")] if obsm else []),
            *(("" if line else "covariates", text) for line, text in enumerate(self._covariate_lines())),
            ("suggested", f"--recipe {self.recipe}"),
            *((finding.level, finding.text) for finding in self.findings),
        ]

    def _covariate_lines(self) -> list[str]:
        width = max((len(name) for name in self.covariates), default=0)
        lines = [
            f"{name:<{width}}  {levels} level{'' if levels == 1 else 's'}{self._named(name, levels)}"
            if isinstance(levels, int)
            else f"{name:<{width}}  {levels[0]:.4g} to {levels[1]:.4g}"
            for name, levels in self.covariates.items()
        ]
        return lines or ["none"]

    def _named(self, name: str, levels: int) -> str:
        """Name the commonest categories of a column."""
        named = ", ".join(f"{category} {n:,}" for category, n in self.categories.get(name, {}).items())
        rest = levels - len(self.categories.get(name, {}))
        return f": {named}{f' and {rest:,} more' if rest else ''}" if named else ""


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _paragraph(head: str, text: str) -> str:
    return textwrap.fill(text, 110, initial_indent=f"  {head:<12}", subsequent_indent=" " * 14)


@public
def inspect(
    data: Source | AnnData | ReadOptions | str | Path,
    layer: str | None = None,
    n_cells: int | None = None,
    seed: int = 0,
) -> Inspection:
    """Inspect data before training on them.

    Parameters
    ----------
    data
        A source, an AnnData object or a path, as for :func:`~genevae.io.formats.open_source`.
    layer
        The layer that holds the expression; ``X`` by default.
    n_cells
        Cells to sample at most. By default the figures are of all cells up to 100,000, and of as many sampled ones
        beyond; the kind and the findings are of 2,000 cells.
    seed
        Seed of the sample.

    Raises
    ------
    DataError
        If the data cannot be opened, or ``n_cells`` is not positive.
    """
    if n_cells is not None and n_cells < 1:
        raise DataError(f"n_cells must be a positive number, not {n_cells}.")
    source, storage = _open(data, layer)
    x = sample_rows(source, n_cells or _SAMPLE, seed)
    rows = finite(x)
    kind = detect_kind(rows)
    figures = _Figures.of(source, n_cells or _WHOLE, seed)
    layers, obsm = _others(data, layer)
    found = [
        *_of_values(x, rows, kind, source.genes),
        *_of_shape(source, rows),
        *_of_gene_names(source.genes),
        *_of_storage(storage),
        *_of_reading(data, source, seed),
        *_of_obs(source.obs),
        *_of_layers(layers, kind),
    ]
    return Inspection(
        name=source.name,
        n_cells=len(source),
        n_genes=len(source.genes),
        n_sampled=len(figures.size_n),
        density=figures.density,
        kind=kind,
        median_size=float(np.median(figures.size_n)) if len(figures.size_n) else 0.0,
        max_value=figures.max_value,
        storage=storage or storage_of(x),
        covariates={str(name): _levels(source.obs[name]) for name in source.obs.columns},
        findings=tuple(sorted(found, key=lambda finding: _LEVELS.index(finding.level))),
        recipe=_suggest(rows, kind),
        categories={str(name): _commonest(source.obs[name]) for name in source.obs.columns},
        layers=layers,
        obsm=obsm,
    )


@dataclass(frozen=True, eq=False)
class _Figures:
    """The total of each cell, the share of entries that are not zero, and the largest value."""

    size_n: _Values
    density: float
    max_value: float

    @classmethod
    def of(cls, source: Source, n_cells: int, seed: int) -> _Figures:
        """Read the cells block by block: all of them, or a sample of as many."""
        n = len(source)
        chosen = (
            np.arange(n) if n <= n_cells else np.sort(np.random.default_rng(seed).choice(n, n_cells, replace=False))
        )
        sizes, nnz, largest = [np.zeros(0)], 0, -np.inf
        for start in range(0, len(chosen), _BLOCK):
            rows = finite(source.read(chosen[start : start + _BLOCK].astype(np.int64)))
            sizes.append(totals(rows))
            nnz += rows.nnz
            largest = max(largest, float(rows.data.max(initial=-np.inf)))
        n_entries = len(chosen) * len(source.genes)
        return cls(
            np.concatenate(sizes), nnz / max(n_entries, 1), max(largest, 0.0) if nnz < n_entries or not nnz else largest
        )


def _others(data: object, layer: str | None) -> tuple[dict[str, str], dict[str, int]]:
    """Return what each other matrix of the data holds, and the widths of the arrays in obsm."""
    openers, shapes = matrices_of(data, layer)
    holds = {}
    for name, opened in openers.items():
        try:
            source = opened()
            holds[name] = f"{detect_kind(sample_rows(source, _PROBE, 0))}, {len(source.genes):,} genes"
        except GenevaeError as error:
            holds[name] = f"cannot be read ({error})"
    return holds, {key: shape[1] if len(shape) > 1 else 1 for key, shape in shapes.items()}


def _of_layers(layers: Mapping[str, str], kind: Kind) -> Iterator[Finding]:
    """Yield that counts are in another matrix."""
    counts = [name for name, holds in layers.items() if holds.startswith(f"{Kind.COUNTS},")]
    if counts and not kind.is_count:
        yield Finding(
            "note", f"'{counts[0]}' has counts: for a recipe of counts, such as nb, give --layer {counts[0]}."
        )


def _commonest(column: pd.Series[Any]) -> dict[str, int]:
    """Return the commonest categories of a column that is not numeric, unless they differ in nearly every cell."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return {}
    counts = _counts(column).sort_values(ascending=False)
    return {} if len(counts) > len(column) / 2 else {str(name): int(n) for name, n in counts.head(_NAMED).items()}


def check_likelihood(kind: Kind, needs_counts: bool, recipe: str, name: str) -> None:
    """Raise if a recipe needs counts and the data are not counts.

    Parameters
    ----------
    kind
        Kind of the data.
    needs_counts
        Whether the recipe's likelihood is for counts.
    recipe, name
        Names of the recipe and the data.
    """
    if needs_counts and not kind.is_count:
        raise RecipeError(
            f"{name} has {kind} values, but the recipe '{recipe}' is for counts (non-negative integers). "
            "Give the layer that holds the counts (--layer counts on the command line, layer='counts' in Python), "
            "or use --recipe conditional, which is for such values. For an array of counts that were scaled to 0–1, "
            "give their factor: gv.fit(array, labels=labels, factor=255)."
        )


def _open(data: Source | AnnData | ReadOptions | str | Path, layer: str | None) -> tuple[Source, str | None]:
    """Open data; also return the format of the matrix, if it is known before reading rows."""
    if isinstance(data, AnnData):
        return from_anndata(data, layer), storage_of(matrix(data, layer, "the AnnData object")[0])
    return open_source(data, layer), None


def _moments(rows: sparse.csr_matrix) -> tuple[_Values, _Values]:
    """Return every gene's mean and variance."""
    mean_g = np.asarray(rows.mean(axis=0)).ravel()
    return mean_g, np.maximum(np.asarray(rows.power(2).mean(axis=0)).ravel() - mean_g**2, 0)


def _suggest(rows: sparse.csr_matrix, kind: Kind) -> str:
    """Return the recipe to try first."""
    if _is_bulk(rows, kind):
        return "bulk"
    if kind is Kind.COUNTS:
        return "poisson" if _is_poisson(rows) else "nb"
    return "conditional" if kind is Kind.LOG else "gaussian"


def _is_bulk(rows: sparse.csr_matrix, kind: Kind) -> bool:
    """Return whether rows are bulk samples: millions of counts, or most of many genes are found in each."""
    if not rows.shape[0] or kind is Kind.SCALED:
        return False
    if kind.is_count and np.median(totals(rows)) > _BULK_SIZE:
        return True
    return bool(rows.shape[1] >= _MANY_GENES and np.median(np.diff(rows.indptr)) > _BULK_DENSITY * rows.shape[1])


def _is_poisson(rows: sparse.csr_matrix) -> bool:
    """Return whether Poisson noise and the cells' sizes explain the variance of nearly all genes."""
    if rows.shape[0] < 3 or not rows.nnz:
        return False
    mean_g, variance_g = _moments(rows)
    size_n = totals(rows)
    explained_g = mean_g + mean_g**2 * (size_n.std() / size_n.mean()) ** 2
    expressed = mean_g > 0.1
    return bool(expressed.any() and np.quantile(variance_g[expressed] / explained_g[expressed], 0.9) < _POISSON)


def _of_values(x: Any, rows: sparse.csr_matrix, kind: Kind, genes: tuple[str, ...]) -> Iterator[Finding]:
    """Yield findings about the values."""
    n_broken = int((~np.isfinite(x if isinstance(x, np.ndarray) else x.data)).sum())
    if n_broken:
        yield Finding("error", f"{n_broken:,} values are NaN or infinite: drop these genes or cells, or fix the file.")
    if not rows.nnz:
        yield Finding("error", "all values are zero: is the expression in another layer?")
    elif kind is Kind.SCALED:
        yield _of_negatives(rows)
    elif kind is Kind.COUNTS:
        yield from _of_counts(rows)
    elif kind is Kind.FRACTIONAL:
        share = 1 - is_integer(rows.data).mean()
        yield Finding(
            "warning",
            f"{share:.2%} of the values are not integers, and totals differ: expected counts (round them for a recipe "
            "for counts), or normalised values of a subset of the genes.",
        )
    which = np.unique(rows.indices[~is_integer(rows.data)])
    if 0 < len(which) < min(6, 0.05 * rows.shape[1]):
        yield Finding(
            "warning",
            f"all genes have integers, except {shorten([genes[g] for g in which])}: are these metadata, among counts? "
            "Then move them to obs, or choose genes with --genes.",
        )


def _of_negatives(rows: sparse.csr_matrix) -> Finding:
    """Return the finding for negative values: damaged counts, scaled genes, or something in between."""
    share = f"{(rows.data < 0).mean():.2%} of the values are negative (lowest {rows.data.min():.4g})"
    if is_integer(rows.data).all():
        return Finding("error", f"{share} and all are integers: damaged counts, or differences of counts.")
    mean_g, variance_g = _moments(rows)
    varies = variance_g > 0
    if varies.any() and np.median(np.abs(mean_g[varies]) / np.sqrt(variance_g[varies])) < 0.5:
        return Finding("note", f"{share}: genes are centred. Prefer counts or log-normalised values.")
    return Finding("warning", f"{share}, but genes are not centred: corrected values, or logarithms below one?")


def _of_counts(rows: sparse.csr_matrix) -> Iterator[Finding]:
    """Yield findings about counts."""
    size_n = totals(rows)
    if rows.data.max() == 1:
        yield Finding("warning", "all counts are zero or one: were they made binary?")
    elif spread(rows) < LEVEL:
        yield Finding(
            "warning", "totals per cell are nearly equal: rounded CPM or TPM, or counts thinned to one depth?"
        )
    if np.median(size_n) > _BULK_SIZE:
        yield Finding("note", f"totals are very large (median {np.median(size_n):,.0f}): bulk samples?")
    if rows.data.max() > _EXACT:
        yield Finding("warning", f"some counts exceed {_EXACT:,}, above which integers are not exact in float32.")


def _of_shape(source: Source, rows: sparse.csr_matrix) -> Iterator[Finding]:
    """Yield findings about empty cells and genes, and repeated names."""
    if not len(source) or not len(source.genes):
        yield Finding("error", f"there are {len(source)} cells and {len(source.genes)} genes.")
        return
    cells = "all cells" if rows.shape[0] == len(source) else f"the {rows.shape[0]:,} sampled cells"
    n_empty = int((np.diff(rows.indptr) == 0).sum())
    if n_empty:
        yield Finding("warning", f"{n_empty:,} of {cells} are empty: scanpy.pp.filter_cells drops them.")
    n_zero = rows.shape[1] - len(np.unique(rows.indices))
    if n_zero:
        yield Finding("note", f"{n_zero:,} genes are zero in {cells}.")
    names = pd.Index(source.genes)
    twice = names[names.duplicated()].unique()
    if len(twice):
        yield Finding(
            "warning", f"{len(twice):,} gene names occur more than once: {shorten(twice, 3)}. Make them unique."
        )
    name_n = pd.Series(source.obs.index.to_numpy(), copy=False)  # an index would keep what it finds duplicates by
    n_twice = int(name_n.duplicated().sum())
    if n_twice:
        yield Finding("note", f"{n_twice:,} cell names are repeated: cells are identified by their row number.")


def _of_gene_names(genes: tuple[str, ...]) -> Iterator[Finding]:
    """Yield findings about names that are no genes, or no longer."""
    others = [gene for gene in genes if describes_samples(gene)]
    if others:
        yield Finding(
            "warning",
            f"{shorten(others)} among the genes describe samples, or are sums of reads, and would be fitted as genes: "
            "move them to obs, or choose genes with --genes.",
        )
    dates = [gene for gene in genes if _DATE.fullmatch(gene)]
    if dates:
        yield Finding(
            "warning",
            f"{len(dates):,} gene names are dates or numbers that a spreadsheet made of them: {shorten(dates, 5)}. "
            "Restore them from the original table.",
        )
    empty = sum(gene.strip().lower() in ("", "nan", "na", "none") for gene in genes)
    if empty:
        yield Finding("warning", f"{empty:,} genes have no name: name or drop them.")
    spaced = [gene for gene in genes if gene != gene.strip()]
    if spaced:
        yield Finding(
            "warning", f"{len(spaced):,} gene names have spaces around them, such as '{spaced[0]}': remove those."
        )


def _of_storage(storage: str | None) -> Iterator[Finding]:
    if storage == "csc":
        yield Finding(
            "note", "the matrix is stored by columns (CSC): it is converted; save it as CSR to open it faster."
        )


def _of_reading(data: object, source: Source, seed: int) -> Iterator[Finding]:
    """Yield that an epoch would read much less long from a converted store; of what was open before, nothing."""
    found = None if data is source else reading_time(source, seed)
    if found is not None and found.is_worth_it:
        yield Finding("note", str(found))


def _of_obs(obs: pd.DataFrame) -> Iterator[Finding]:
    """Yield findings about columns that cannot be covariates."""
    for name in obs.columns:
        column = obs[name]
        n_missing = int(column.isna().sum())
        if n_missing:
            yield Finding(
                "warning", f"obs['{name}'] is missing in {n_missing:,} of {len(obs):,} cells: fill or drop them."
            )
        levels = _levels(column)
        if levels == 1 and len(obs) > 1:
            yield Finding("note", f"obs['{name}'] has a single level, so it is not informative as a covariate.")
        if isinstance(levels, int) and levels == len(obs) > 2:
            yield Finding("note", f"obs['{name}'] differs in every cell: an id, not a covariate.")


def _levels(column: pd.Series[Any]) -> int | tuple[float, float]:
    """Return the number of levels of a column, or its range if it is numeric."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return len(_counts(column))
    present = without_names(column).dropna()
    return (float(present.min()), float(present.max())) if len(present) else (float("nan"), float("nan"))


def _counts(column: pd.Series[Any]) -> pd.Series[int]:
    """Return the number of cells of each level of a column, by its text, in the order in which levels first occur."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        texts = without_names(column).astype(str)
        return texts[column.notna().to_numpy()].value_counts(sort=False)
    count_of = pd.Series(column.cat.codes.to_numpy()).value_counts(sort=False).drop(-1, errors="ignore")
    return count_of.set_axis(column.cat.categories.astype(str)[count_of.index]).groupby(level=0, sort=False).sum()
