"""Maps of cells, one panel for every field."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.plotting.literal import literal
from genevae.plotting.training import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["canvas", "draw_map", "effect_picture", "field_picture", "map_picture"]

MISSING = "0.85"
MARKERS = "o^sDv"
"""With ten colours, fifty categories can be distinguished."""
MAX_COLUMNS = 3
WIDTH = 38
"""Characters of a category's name that a legend shows."""
SHORT, LETTER, LINE = 18, 0.022, 0.055
"""Characters of a name on a map; the width of one and the height of a line, as shares of the map."""
MOST_NAMED = 15
"""Categories at most, whose names stand on the map too."""


def field_picture(xy: NDArray[Any], fields: Mapping[str, NDArray[Any]], title: str, path: Path) -> None:
    """Draw one map of cells several times, coloured by each field.

    Parameters
    ----------
    xy
        Coordinates, cells × 2, or cells × 3, which are drawn in perspective.
    fields
        For each title, one number or one text per cell; None and NaN are drawn in grey, under the others.
    title
        What the map is.
    path
        The file to write.
    """
    n_columns = min(MAX_COLUMNS, math.isqrt(len(fields) - 1) + 1)
    n_rows = -(-len(fields) // n_columns)
    figure = canvas(5.9 * n_columns, 4.2 * n_rows + 0.5)
    figure.suptitle(literal(title), fontsize=14, x=0.01, ha="left")
    axes: list[Any] = list(np.atleast_1d(figure.subplots(n_rows, n_columns, subplot_kw=_projection(xy))).ravel())
    for axis, (name, values) in zip(axes, fields.items(), strict=False):
        draw_map(axis, xy, values, name)
    for axis in axes[len(fields) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=110)


def map_picture(maps: Mapping[str, NDArray[Any]], labels_n: Sequence[str], path: Path) -> None:
    """Draw two-dimensional maps of the same cells side by side, coloured by label, with one legend.

    Parameters
    ----------
    maps
        For each title, coordinates (cells × 2).
    labels_n
        The label of each cell.
    path
        The file to write.
    """
    figure = canvas(4.2 * len(maps) + 2.6, 4.0)
    axes = list(np.atleast_1d(figure.subplots(1, len(maps))))
    for axis, (title, xy) in zip(axes, maps.items(), strict=True):
        draw_map(axis, xy, np.asarray(labels_n, dtype=object), title, legend=axis is axes[-1])
    figure.savefig(path, dpi=140)


def draw_map(
    axis: Any, xy: NDArray[Any], values: NDArray[Any], title: str, colours: Mapping[str, Any] | None = None,
    legend: bool = True,
) -> None:  # fmt: skip
    """Draw a map of cells, coloured by numbers or by categories.

    Parameters
    ----------
    axis
        Where to draw.
    xy
        Coordinates, cells × 2, or cells × 3 on axes in perspective.
    values
        One number or one text per cell; None and NaN are drawn in grey, under the others.
    title
        Of the axes.
    colours
        The colour of some categories; others have those of the palette.
    legend
        Whether categories have a legend.
    """
    axis.set_title(literal(title), fontsize=11, loc="left")
    if np.issubdtype(values.dtype, np.number):
        _numbers(axis, xy, values)
    else:
        _categories(axis, xy, values, colours or {}, legend)
    axis.set(xticks=[], yticks=[], box_aspect=(1,) * 3 if xy.shape[1] == 3 else 1)
    if xy.shape[1] == 3:
        axis.set_zticks([])
    else:
        axis.spines[:].set_visible(False)


def _categories(axis: Any, xy: NDArray[Any], values: NDArray[Any], colours: Mapping[str, Any], legend: bool) -> None:
    """Draw categories, the rarest on top, with their names where they are, and a legend with their counts."""
    missing = pd.isna(values)
    _dots(axis, xy, missing, MISSING)
    names = sorted(set(values[~missing]), key=lambda name: (int(name) if name.isdecimal() else -1, name))
    n = len(PALETTE)
    styles = {name: (PALETTE[i % n], MARKERS[i // n % len(MARKERS)]) for i, name in enumerate(names)}
    styles |= {name: (colours[name], "o") for name in names if name in colours}
    for name in sorted(names, key=lambda name: -int((values == name).sum())):
        colour, marker = styles[name]
        _dots(axis, xy, values == name, colour, marker)
    if xy.shape[1] == 2 and 1 < len(names) <= MOST_NAMED:
        _name_groups(axis, xy, values, names)
    if not legend:
        return
    for name in names:
        colour, marker = styles[name]
        shown = name if len(name) <= WIDTH else f"{name[: WIDTH - 1]}…"
        axis.scatter(
            *[[]] * xy.shape[1],
            s=36,
            color=colour,
            marker=marker,
            linewidths=0,
            label=f"{literal(shown)} ({(values == name).sum():,})",
        )
    axis.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9 if len(names) <= 20 else 6,
        ncols=-(-len(names) // 25), handletextpad=0.2, borderaxespad=0.2, columnspacing=0.8,
    )  # fmt: skip


def _name_groups(axis: Any, xy: NDArray[Any], values: NDArray[Any], names: Sequence[str]) -> None:
    """Write the name of each category at the median of its cells; names that would overlap are moved apart."""
    from matplotlib.patheffects import withStroke

    low, span = xy.min(0), np.maximum(np.ptp(xy, axis=0), 1e-9)
    place = np.array([(np.median(xy[values == name], axis=0) - low) / span for name in names])
    texts = [name if len(name) <= SHORT else f"{name[: SHORT - 1]}…" for name in names]
    half = np.array([LETTER * len(text) / 2 for text in texts])
    for _ in range(60):
        for i, j in itertools.combinations(range(len(names)), 2):
            gap = place[j] - place[i]
            if abs(gap[0]) < half[i] + half[j] and abs(gap[1]) < LINE:
                push = (LINE - abs(gap[1])) / 2 * (1 if gap[1] >= 0 else -1)
                place[i, 1], place[j, 1] = place[i, 1] - push, place[j, 1] + push
    for text, (x, y) in zip(texts, low + place * span, strict=True):
        halo = [withStroke(linewidth=2.5, foreground="white")]
        axis.text(x, y, literal(text), ha="center", va="center", fontsize=9, weight="bold", path_effects=halo)


def _numbers(axis: Any, xy: NDArray[Any], values: NDArray[Any]) -> None:
    """Draw numbers, between their 1st and 99th percentile, the largest on top."""
    known = np.isfinite(values.astype(float))
    _dots(axis, xy, ~known, MISSING)
    order = np.flatnonzero(known)[np.argsort(values[known], kind="stable")]
    low, high = np.nanpercentile(values[known].astype(float), (1, 99)) if known.any() else (0.0, 1.0)
    style: dict[str, Any] = {"c": values[order], "cmap": "cividis", "vmin": low, "vmax": high}
    points = axis.scatter(*xy[order].T, s=_area(len(xy)), linewidths=0, **style)
    axis.figure.colorbar(points, ax=axis, shrink=0.6, pad=0.02)


def _dots(axis: Any, xy: NDArray[Any], which: NDArray[Any], colour: str, marker: str = "o") -> None:
    axis.scatter(*xy[which].T, s=_area(len(xy)), color=colour, marker=marker, linewidths=0, alpha=0.85)


def effect_picture(lfc: pd.DataFrame, path: Path) -> None:
    """Draw log fold changes as a heat map, from blue over white to red; the scale is clipped at its 97th percentile.

    Parameters
    ----------
    lfc
        A row per gene, in the order of the picture, and a column for each perturbation of each context.
    path
        The file to write.
    """
    width = 0.42 * lfc.shape[1] + 3.2
    figure = canvas(max(width, 4.5), 0.19 * lfc.shape[0] + 2.4)
    axis = figure.subplots()
    end = max(float(np.nanpercentile(np.abs(lfc.to_numpy()), 97)), 1e-6)
    image = axis.imshow(lfc.to_numpy(), aspect="auto", cmap="RdBu_r", vmin=-end, vmax=end, interpolation="nearest")
    columns, genes = (list(map(literal, names)) for names in (lfc.columns, lfc.index))
    axis.set_xticks(range(lfc.shape[1]), columns, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(lfc.shape[0]), genes, fontsize=7.5)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, label="log2 fold change", fraction=0.05, pad=0.03)
    figure.savefig(path, dpi=130)


def _projection(xy: NDArray[Any]) -> dict[str, str]:
    """Return what makes axes of two or three dimensions."""
    return {"projection": "3d"} if xy.shape[1] == 3 else {}


def canvas(width: float, height: float) -> Figure:
    """Return a figure that needs no display, of a size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _area(n_cells: int) -> float:
    """Return the area of a dot, smaller where there are more."""
    return float(np.clip(12_000 / n_cells, 3, 16))
