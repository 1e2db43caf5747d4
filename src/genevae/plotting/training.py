"""Figures of training, of generated cells and of genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.plotting.literal import literal

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["agreement_picture", "draw_history", "gene_picture", "sweep_picture", "training_picture"]

PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7",
    "#56B4E9", "#8C6D1F", "#5E3C99", "#333333", "#B3B300",
)  # fmt: skip
"""Okabe and Ito's colours, which colour-blind readers can distinguish, and four darker ones."""


LOSS = "loss per cell"
LOSSES = {LOSS: {"training": "train_loss", "validation": "validation_loss"}}


def training_picture(history: pd.DataFrame, best_epoch: int, path: Path) -> None:
    """Draw both losses over epochs, with the epoch whose weights were kept; where there are some, also the error and β.

    Parameters
    ----------
    history
        One row per epoch.
    best_epoch
        Counted from one.
    path
        The file to write.
    """
    panels = dict(LOSSES)
    panels |= {"mean squared error": {"validation": "validation_mse"}} if "validation_mse" in history else {}
    panels |= {"β": {"mean of the epoch": "beta"}} if "beta" in history else {}
    figure, axes = _figure(len(panels))
    for axis, panel in zip(axes, panels.items(), strict=True):
        draw_history(axis, history, best_epoch, *panel)
    axes[0].legend(frameon=False)
    _save(figure, path)


def sweep_picture(table: pd.DataFrame, names: Sequence[str], choice: int, path: Path) -> None:
    """Draw the bound and the reconstruction over the values of a sweep, with the choice.

    Parameters
    ----------
    table
        One row per fit, with ``bound``, ``low``, ``high`` and ``reconstruction``; see
        :class:`~genevae.evaluation.sweep.Sweep`.
    names
        The settings.
    choice
        The row of the choice.
    path
        The file to write.
    """
    labels = [literal(", ".join(str(value) for value in row)) for row in table[list(names)].itertuples(index=False)]
    best = table["bound"].max()
    panels = {"bound, nats per held-out cell": table["bound"], "reconstruction, nats": table["reconstruction"]}
    figure, axes = _figure(len(panels))
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        if title.startswith("bound"):
            gap = [values - (best + table["low"]), (best + table["high"]) - values]
            axis.errorbar(range(len(values)), values, np.maximum(gap, 0), color=PALETTE[0], marker="o", capsize=3)
        else:
            axis.plot(range(len(values)), values, color=PALETTE[0], marker="o")
        axis.plot(choice, values[choice], "o", color=PALETTE[1], markersize=9, label=f"choice: {labels[choice]}")
        axis.set_xticks(range(len(values)), labels, rotation=30 if max(map(len, labels)) > 6 else 0)
        axis.set(xlabel=literal(", ".join(names)), title=title)
        axis.legend(frameon=False)
    _save(figure, path)


def draw_history(
    axis: Axes, history: pd.DataFrame, best_epoch: int, title: str = LOSS, curves: Mapping[str, str] = LOSSES[LOSS]
) -> None:
    """Draw columns of the history; the axis shows all but the highest values, which are those of the first epochs.

    Parameters
    ----------
    axis
        Where to draw.
    history, best_epoch
        As for :func:`training_picture`.
    title
        Of the vertical axis.
    curves
        The column of each curve.
    """
    colours = {"training": PALETTE[0], "validation": PALETTE[1]}
    columns = {label: history[column].to_numpy(float) for label, column in curves.items()}
    for label, y in columns.items():
        axis.plot(history["epoch"], y, marker="." if len(y) < 3 else None, color=colours.get(label), label=label)
    axis.set(xlabel="epoch", ylabel=title)
    ends = [(y.min(), np.quantile(y, 0.98)) for y in (y[np.isfinite(y)] for y in columns.values()) if len(y)]
    if ends:
        low, high = min(end[0] for end in ends), ends[-1][1]
        margin = 0.05 * max(high - low, 1e-3 * abs(high), 1e-9)
        axis.set_ylim(low - margin, max(high, low) + margin)
    axis.axvline(best_epoch, color="0.5", linestyle=":", label=f"best epoch ({best_epoch})")


def agreement_picture(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], path: Path, xlabel: str = "real", ylabel: str = "generated"
) -> None:
    """Draw statistics of generated genes against those of real ones, one panel each, with the line of agreement.

    Parameters
    ----------
    pairs
        For each statistic, its value per gene in real and in generated cells.
    path
        The file to write.
    xlabel, ylabel
        Titles of the axes.
    """
    figure, axes = _figure(len(pairs))
    for axis, (title, (real, made)) in zip(axes, pairs.items(), strict=True):
        x, y = np.asarray(real), np.asarray(made)
        ends = min(x.min(), y.min()), max(x.max(), y.max())
        axis.plot(ends, ends, color="0.6", linewidth=1)
        axis.scatter(x, y, s=6, color=PALETTE[0], alpha=0.5, linewidths=0)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    _save(figure, path)


def gene_picture(values: Mapping[str, Mapping[str, NDArray[Any]]], labels_n: Sequence[str], path: Path) -> None:
    """Draw the mean expression of genes in each label, before and after, as a row of panels with counts of cells.

    Parameters
    ----------
    values
        For each title, for each gene, one value per cell.
    labels_n
        The label of each cell.
    path
        The file to write.
    """
    labels, names = np.asarray(labels_n), sorted(set(labels_n))
    figure, axes = _figure(len(values))
    for axis, (title, genes) in zip(axes, values.items(), strict=True):
        mean_cg = np.array([[x[labels == name].mean() for x in genes.values()] for name in names])
        mean_cg /= mean_cg.max(0, keepdims=True)
        axis.imshow(mean_cg, aspect="auto", cmap="cividis", vmin=0, vmax=1)
        axis.set(title=literal(title), xticks=range(len(genes)), yticks=range(len(names)))
        axis.set_xticklabels(list(map(literal, genes)))
        rows = [f"{literal(name)} ({(labels == name).sum():,})" for name in names]
        axis.set_yticklabels(rows if axis is axes[0] else [], fontsize=9)
        axis.tick_params(axis="x", rotation=60)
    _save(figure, path)


def _figure(n_panels: int) -> tuple[Figure, list[Axes]]:
    """Make a row of panels without touching pyplot's global state; they are small, so that letters are large."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.7 * n_panels + 0.4, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(1, n_panels)))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=160)
