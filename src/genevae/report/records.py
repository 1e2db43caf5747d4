"""What an evaluation found: scores, verdicts and charts, in sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd
from numpy.typing import NDArray

from genevae.metrics.metric import Direction, Metric

__all__ = ["Bars", "Chart", "Heat", "Lines", "Map", "Points", "Score", "Section", "Verdict", "scores_to_frame"]

Role = Literal["run", "baseline", "ceiling"]
Tone = Literal["good", "bad", "mixed", "plain"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of a model, of a baseline, or of a ceiling that noise sets.

    Parameters
    ----------
    metric
        What is measured, as in "Pearson of the shift".
    who
        The model's or the baseline's name.
    value
        The number; NaN where it cannot be had.
    role
        Whose number it is.
    of
        What it is measured on, as in "CD4 T"; empty for all of it.
    low, high
        Ends of its 95 % interval; None where it has none.
    better
        Whether a higher or a lower number is better, or one closer to ``ideal``.
    ideal
        The number of a perfect model, where there is one.
    scale
        Scores of one metric are comparable where this is the same; empty by default.
    """

    metric: str
    who: str
    value: float
    role: Role = "run"
    of: str = ""
    low: float | None = None
    high: float | None = None
    better: Direction = "higher"
    ideal: float | None = None
    scale: str = ""

    @classmethod
    def of_metric(
        cls,
        metric: Metric,
        who: str,
        value: float,
        role: Role = "run",
        of: str = "",
        low: float | None = None,
        high: float | None = None,
        *,
        ideal: float | None = None,
    ) -> Score:
        """Return a score with the direction of its metric, and its ideal unless that depends on the data."""
        best = metric.ideal if ideal is None else ideal
        return cls(
            metric=metric.name, who=who, value=value, role=role, of=of, low=low, high=high, better=metric.direction,
            ideal=best,
        )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """One finding, in a plain sentence.

    Parameters
    ----------
    text
        As in "beats the mean shift on 6 of 7 cell types; loses on DC".
    tone
        Whether that is good news.
    who
        The run that it is about; empty where it is about several, or none.
    short
        The same in a few words, with the number of the best baseline: "0.95 (mean shift 0.80)".
    advice
        What to do about it, in a sentence; empty where nothing is to be done.
    """

    text: str
    tone: Tone = "plain"
    who: str = ""
    short: str = ""
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Curves over a shared axis.

    Parameters
    ----------
    title, caption
        What is drawn, and how to read it.
    x_label, y_label
        Of the axes.
    series
        For each name, its points (x, y).
    marks
        For each name, an x at which a dotted line stands, such as the best epoch.
    diagonal
        Whether to draw the line of agreement.
    y_range
        The part of the axis that is shown; all by default.
    """

    title: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    caption: str = ""
    x_label: str = ""
    y_label: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)
    diagonal: bool = False
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Points:
    """Named points of two numbers, such as genes: predicted against true.

    Parameters
    ----------
    title, caption, x_label, y_label, diagonal
        As for :class:`Lines`.
    x, y
        Coordinates.
    names
        The name of each point, shown where the pointer is.
    highlighted
        Names that are written beside their points, such as the worst genes.
    """

    title: str
    x: Sequence[float]
    y: Sequence[float]
    names: Sequence[str]
    caption: str = ""
    x_label: str = ""
    y_label: str = ""
    highlighted: Sequence[str] = ()
    diagonal: bool = True


@dataclass(frozen=True, kw_only=True)
class Map:
    """Cells in two dimensions, in one or more ways, coloured by any of some fields.

    Parameters
    ----------
    title, caption
        What is drawn, and how to read it.
    spaces
        For each title, coordinates (cells × 2).
    fields
        For each title, a text or a number per cell; None and NaN are missing.
    who
        The run whose latent it is; empty where it is of none.
    """

    title: str
    spaces: Mapping[str, NDArray[Any]]
    fields: Mapping[str, NDArray[Any]]
    caption: str = ""
    who: str = ""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A number for every one of some names, for one or more series, with intervals where there are any.

    Parameters
    ----------
    title, caption, x_label
        What is drawn, how to read it, and what the numbers are.
    names
        What the numbers are of.
    series
        For each title, a number per name.
    intervals
        For a series that has them, the low and the high end per name.
    """

    title: str
    names: Sequence[str]
    series: Mapping[str, Sequence[float]]
    caption: str = ""
    x_label: str = ""
    intervals: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A table of numbers as colours, such as a confusion matrix.

    Parameters
    ----------
    title, caption
        What is drawn, and how to read it.
    rows, columns
        Their names.
    values
        The numbers, rows × columns.
    diverging
        Whether zero is the middle of the scale.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: NDArray[Any]
    caption: str = ""
    row_label: str = ""
    column_label: str = ""
    diverging: bool = False


Chart = Lines | Points | Map | Bars | Heat


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a report: what was found of one question.

    Parameters
    ----------
    name
        One word, as in "response"; the ``section`` column of the table of scores.
    title
        The question that it answers.
    verdicts
        What was found, in sentences, the most important first.
    scores
        All numbers, of runs, baselines and ceilings.
    charts
        The charts.
    notes
        How the numbers were computed: which cells, how many, which seed, what was left out.
    """

    name: str
    title: str
    verdicts: Sequence[Verdict] = ()
    scores: Sequence[Score] = ()
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()


def scores_to_frame(sections: Sequence[Section]) -> pd.DataFrame:
    """Return all scores as one table: a row per score, with the section it stands in."""
    rows = [{"section": section.name, **asdict(score)} for section in sections for score in section.scores]
    columns = ["section", "metric", "of", "who", "role", "value", "low", "high", "better", "ideal", "scale"]
    return pd.DataFrame(rows, columns=columns)
