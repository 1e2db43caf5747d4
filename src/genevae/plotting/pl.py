"""``gv.pl``: pictures on axes of matplotlib, of what tasks return.

Each function takes ``ax=``, makes axes where none are given, and returns them.

>>> import numpy as np, anndata as ad, genevae as gv
>>> cells = ad.AnnData(np.zeros((4, 1), "float32"), obs={"type": list("ABAB")}, obsm={"X_genevae": np.eye(4)})
>>> gv.pl.embedding(cells, "type").get_title(loc="left")
'type'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from genevae.errors import DataError, nearest
from genevae.plotting.bars import draw_bars, draw_calibration
from genevae.plotting.curves import draw_doses, largest_genes
from genevae.plotting.embedding import draw_map
from genevae.plotting.projections import project_2d
from genevae.plotting.training import PALETTE, draw_history
from genevae.plotting.volcano import draw_volcano

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = [
    "calibration",
    "contributions",
    "dose_curves",
    "embedding",
    "influence",
    "program_scores",
    "training",
    "volcano",
]

UP, DOWN = "#b2352c", "#2c6fb2"


def embedding(adata: AnnData, color: str | None = None, *, basis: str = "X_genevae", ax: Axes | None = None) -> Axes:
    """Draw a map of cells, coloured by an obs column or a gene.

    Parameters
    ----------
    adata
        Cells, such as :func:`genevae.embed` returns them.
    color
        A column of obs, or a gene. Categories have the colours of ``adata.uns["<color>_colors"]``, where there are.
    basis
        The key in obsm; of more than two dimensions, two principal components are drawn.
    ax
        Where to draw.
    """
    if not hasattr(adata, "obsm"):
        raise DataError(f"Give cells, such as gv.embed returns them, not {_article(type(adata).__name__)}.")
    key = basis if basis in adata.obsm else f"X_{basis}"
    if key not in adata.obsm:
        raise DataError(f"obsm has no '{basis}'. {nearest(basis, list(adata.obsm))}")
    xy = np.asarray(adata.obsm[key])
    title = {"X_genevae": "latent"}.get(key, key.removeprefix("X_"))
    xy = xy if xy.shape[1] == 2 else project_2d("pca", xy, 0)
    ax = _axes(ax, 5.6, 4.2)
    if color is None:
        draw_map(ax, xy, np.full(len(xy), "cells", dtype=object), title, legend=False)
        return ax
    values, colours = _coloured(adata, color)
    draw_map(ax, xy, values, color, colours)
    return ax


def _coloured(adata: AnnData, color: str) -> tuple[Any, dict[str, Any]]:
    """Return a value of each cell, and the colours of categories."""
    if color not in adata.obs:
        if color not in adata.var_names or adata.X is None:
            raise DataError(
                f"'{color}' is no column of obs and no gene. {nearest(color, [*adata.obs, *adata.var_names])}"
            )
        return adata.obs_vector(color).astype(float), {}
    column = adata.obs[color]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=float), {}
    kept = adata.uns.get(f"{color}_colors", ())
    categories = pd.Categorical(column).categories
    colours = {str(name): str(each) for name, each in zip(categories, kept, strict=False)}
    return column.astype(object).where(column.notna(), None).map(_text).to_numpy(dtype=object), colours


def _text(value: Any) -> Any:
    return value if value is None else str(value)


def training(model: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the losses of training over epochs, with the epoch whose weights were kept.

    Parameters
    ----------
    model
        A trained model, or its ``history``.
    ax
        Where to draw.
    """
    history: pd.DataFrame = model if isinstance(model, pd.DataFrame) else getattr(model, "history", model)
    _require(history, ("epoch", "validation_loss"), "load(…).history")
    of_validation = history["validation_loss"].to_numpy()
    best = int(history["epoch"].iloc[int(np.nanargmin(of_validation))]) if np.isfinite(of_validation).any() else 0
    best = best if isinstance(model, pd.DataFrame) else int(model.facts.get("best_epoch", best))
    ax = _axes(ax, 4.4, 3.4)
    draw_history(ax, history, best)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def volcano(table: pd.DataFrame, comparison: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw the probability that a gene does not change against its log fold change, for one comparison.

    Parameters
    ----------
    table
        As :func:`genevae.effect` or :func:`genevae.differential_expression` returns it.
    comparison
        The group, or perturbation, where there are several: the text of the columns before ``gene``, with ", ".
    ax
        Where to draw.
    """
    _require(table, ("gene", "lfc", "probability"), "effect or gv.differential_expression")
    columns = list(table.columns[: table.columns.get_loc("gene")])
    names = table[columns].astype(str).agg(", ".join, axis=1) if columns else pd.Series("", index=table.index)
    chosen = _one_of(list(names.unique()), comparison, "comparison")
    ax = _axes(ax, 4.4, 4.0)
    draw_volcano(ax, table[(names == chosen).to_numpy()], chosen)
    return ax


def dose_curves(table: pd.DataFrame, genes: Sequence[str] | str | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw the mean expression of genes over the dose, with intervals and EC50.

    Parameters
    ----------
    table
        As :func:`genevae.dose_response` returns it.
    genes
        By default the five that change most.
    ax
        Where to draw.
    """
    _require(table, ("dose", "mean", "lower", "upper", "ec50", "max_effect"), "dose_response")
    genes = [genes] if isinstance(genes, str) else list(genes or largest_genes(table, 5))
    for gene in genes:
        if gene not in table.index:
            raise DataError(f"The table has no gene '{gene}'. {nearest(gene, list(table.index.unique()))}")
    ax = _axes(ax, 4.8, 3.6)
    draw_doses(ax, table, genes)
    ax.set(xlabel="dose", ylabel="mean expression")
    return ax


def calibration(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how often values fall in the intervals of their predicted distributions.

    Parameters
    ----------
    table
        As :func:`genevae.calibration` returns it.
    ax
        Where to draw.
    """
    _require(table, (), "calibration")
    ax = _axes(ax, 4.4, 4.2)
    draw_calibration(ax, table)
    return ax


def program_scores(adata: AnnData, n: int = 15, *, ax: Axes | None = None) -> Axes:
    """Draw the programs that differ most between two groups, or vary most: high ones in red, low ones in blue.

    Parameters
    ----------
    adata
        As :func:`genevae.program_scores` returns it; with groups, bars are log Bayes factors, otherwise strengths.
    n
        Programs.
    ax
        Where to draw.
    """
    by = "log_bayes_factor" if "log_bayes_factor" in getattr(adata, "var", ()) else "strength"
    _require(getattr(adata, "var", adata), (by,), "program_scores")
    top = adata.var[by].sort_values(key=np.abs, ascending=False, kind="stable").head(n)
    ax = _axes(ax, 6.0, 0.28 * len(top) + 1.2)
    draw_bars(ax, list(top.index), list(top), [UP if x > 0 else DOWN for x in top], "programs")
    ax.set_xlabel("log Bayes factor" if by == "log_bayes_factor" else by)
    return ax


def influence(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how much the base, each field and each category contribute to expression.

    Parameters
    ----------
    table
        As :func:`genevae.influence` returns it.
    ax
        Where to draw.
    """
    _require(table, ("category", "influence"), "influence")
    fields = list(dict.fromkeys(table.index))
    names = [str(f) if c == "all" else f"– {c}" for f, c in zip(table.index, table["category"], strict=True)]
    ax = _axes(ax, 4.8, 0.28 * len(table) + 1.2)
    colours = [PALETTE[fields.index(field) % len(PALETTE)] for field in table.index]
    draw_bars(ax, names, list(table["influence"]), colours, "influence")
    for label, category in zip(ax.get_yticklabels(), table["category"], strict=True):
        label.set_fontweight("bold" if category == "all" else "normal")
    ax.set_xlabel("norm of the contribution / norm of the sum")
    return ax


def contributions(table: pd.DataFrame, category: str | None = None, n: int = 10, *, ax: Axes | None = None) -> Axes:
    """Draw the genes to which a category adds most, beyond the mean of its field.

    Parameters
    ----------
    table
        As :func:`genevae.contributions` returns it.
    category
        As ``FIELD: CATEGORY``; needed where there are several.
    n
        Genes.
    ax
        Where to draw.
    """
    _require(table, ("category", "gene", "excess"), "contributions")
    names = pd.Series([f"{f}: {c}" for f, c in zip(table.index, table["category"], strict=True)])
    chosen = _one_of([name for name in names.unique() if not name.startswith("base: ")], category, "category")
    top = table[(names == chosen).to_numpy()].head(n)
    ax = _axes(ax, 4.2, 0.28 * len(top) + 1.2)
    draw_bars(ax, list(top["gene"]), list(top["excess"]), [PALETTE[0]] * len(top), chosen)
    ax.set_xlabel("contribution beyond the mean of the field")
    return ax


def _one_of(names: list[str], given: str | None, what: str) -> str:
    """Return the name that is given, or the only one."""
    if given in names or (given is None and len(names) == 1):
        return given or names[0]
    raise DataError(f"Give one {what} of the table{f', not {given!r}' if given else ''}. {nearest(given or '', names)}")


def _require(table: Any, columns: Iterable[str], source: str) -> None:
    """Check that something is the table of a function."""
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"Give the table of gv.{source}, not {_article(type(table).__name__)}.")
    for name in columns:
        if name not in table:
            raise DataError(f"The table has no column '{name}': give that of gv.{source}.")


def _article(name: str) -> str:
    return f"a{'n' * (name[0].lower() in 'aeiou')} {name}"


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes that are given, or new ones."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]
