"""The scores of a section as a table: a row per metric and what it is measured on, a column per run and baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from genevae.report.numbers import brief
from genevae.report.records import Score

__all__ = ["Cell", "Column", "Row", "ScoreTable", "score_table"]

ROLES = ("run", "baseline", "ceiling")


@dataclass(frozen=True)
class Column:
    """Whose numbers these are."""

    who: str
    role: str


@dataclass(frozen=True)
class Cell:
    """One number as text, with its interval, and whether it is the best of its row."""

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """The numbers of one metric on one part of the data; None where there is none."""

    metric: str
    of: str
    aim: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class ScoreTable:
    """Columns, and the rows below them."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """The rows of each metric."""
        return [(metric, list(rows)) for metric, rows in groupby(self.rows, key=lambda row: row.metric)]


def score_table(scores: Sequence[Score]) -> ScoreTable:
    """Arrange scores: runs come first, then baselines, then ceilings; metrics stay in their order.

    The best number of a row is marked of each scale, where there are two or more to choose from, ceilings left out.

    >>> scores = [Score(metric="accuracy", who=who, value=value) for who, value in (("ours", 0.9), ("theirs", 0.8))]
    >>> [cell.text + "*" * cell.best for cell in score_table(scores).rows[0].cells]
    ['0.900*', '0.800']
    """
    columns = sorted(
        dict.fromkeys(Column(score.who, score.role) for score in scores), key=lambda column: ROLES.index(column.role)
    )
    rows: dict[tuple[str, str], dict[Column, Score]] = {}
    for score in scores:
        rows.setdefault((score.metric, score.of), {})[Column(score.who, score.role)] = score
    order = list(dict.fromkeys(score.metric for score in scores))
    in_order = sorted(rows.items(), key=lambda item: order.index(item[0][0]))
    return ScoreTable(tuple(columns), tuple(_row(key, found, columns) for key, found in in_order))


def _row(key: tuple[str, str], found: dict[Column, Score], columns: Sequence[Column]) -> Row:
    competing = [score for score in found.values() if score.role != "ceiling"]
    scales = {score.scale for score in competing}
    best = [score for scale in scales for score in _best([each for each in competing if each.scale == scale])]
    cells = (_cell(found[column], found[column] in best) if column in found else None for column in columns)
    return Row(*key, _aim(next(iter(found.values()))), tuple(cells))


def _cell(score: Score, best: bool) -> Cell:
    has_ends = score.low is not None and score.high is not None
    interval = f"{brief(score.low)} to {brief(score.high)}" if has_ends else ""
    return Cell(brief(score.value), interval, best)


def _aim(score: Score) -> str:
    if score.better == "closer":
        return "" if score.ideal is None else f"closest to {brief(score.ideal)}"
    return "higher" if score.better == "higher" else "lower"


def _best(scores: Sequence[Score]) -> list[Score]:
    """Return the best scores, of those that can be compared; none where nothing competes."""
    losses = {_loss(score) for score in scores if math.isfinite(score.value)}
    return [score for score in scores if _loss(score) == min(losses)] if len(losses) > 1 else []


def _loss(score: Score) -> float:
    """Return what is the lower the better; NaN where nothing says which way is better."""
    if score.better == "closer":
        return math.nan if score.ideal is None else abs(score.value - score.ideal)
    return score.value if score.better == "lower" else -score.value
