"""What was found of predicted responses, as scores and in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from genevae.errors import shorten
from genevae.evaluation.response.baselines import NO_CHANGE, MAIN_BASELINES
from genevae.evaluation.response.scores import E_DISTANCE, METRICS, MSE, OVERLAP, PEARSON, Prediction, Truth
from genevae.evaluation.response.states import Case, Perturbation
from genevae.metrics.bootstrap import interval
from genevae.metrics.ceiling import calibrated
from genevae.metrics.ranking import discrimination
from genevae.report.records import Role, Score, Verdict

__all__ = ["PARTS", "Judged", "scores_of", "verdicts_of"]

PARTS = {True: "held-out answers", False: "seen combinations"}
"""The states of which nothing was trained on, and the others."""
EACH = (PEARSON, MSE, OVERLAP, E_DISTANCE)
"""Scores that are told of every state; the others as means."""
LEAST_LEVELS = 3

Table = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Judged:
    """One state, and all that was predicted of it.

    Parameters
    ----------
    case, asked
        The state, and the field that was asked for.
    genes
        Names.
    truth
        What it truly looks like.
    told, baselines
        Predictions, by who made them.
    ceilings
        Scores of what noise allows.
    """

    case: Case
    asked: Perturbation
    genes: tuple[str, ...]
    truth: Truth
    told: Mapping[str, Prediction]
    baselines: Mapping[str, Prediction]
    ceilings: Table

    @cached_property
    def scores(self) -> dict[str, tuple[Role, Mapping[str, float]]]:
        """Every score of the runs, the baselines and the ceilings."""
        found: dict[str, tuple[Role, Mapping[str, float]]] = {
            name: ("run", self.truth.scores(told)) for name, told in self.told.items()
        }
        found |= {name: ("baseline", self.truth.scores(told)) for name, told in self.baselines.items()}
        return found | {name: ("ceiling", scores) for name, scores in self.ceilings.items()}

    @property
    def usual(self) -> str:
        """The baseline that a run is first of all to beat."""
        return next(each for name in MAIN_BASELINES for each in self.baselines if each.startswith(name))

    @property
    def ceiling(self) -> float:
        """The ceiling of Pearson's correlation."""
        return next(iter(self.ceilings.values()))[PEARSON]

    def value(self, who: str, metric: str) -> float:
        """Return one score."""
        return self.scores[who][1][metric]


def scores_of(judged: Sequence[Judged], seed: int) -> list[Score]:
    """Return the means over states, held-out answers and seen combinations apart, and the main scores of each state."""
    found: list[Score] = []
    for held_out, part in PARTS.items():
        here = [one for one in judged if one.case.held_out is held_out]
        for who, role in {who: role for one in here for who, (role, _) in one.scores.items()}.items():
            mine = [one for one in here if who in one.scores]
            found += [_mean(mine, who, role, metric, part, seed) for metric in METRICS]
            if role != "ceiling":
                found += _of_all(mine, who, role, part)
    for one in judged:
        of = one.case.name
        for who, (role, scores) in one.scores.items():
            found += [_score(metric, who, scores[metric], role, of) for metric in EACH]
    return [score for score in found if not np.isnan(score.value)]


def _score(metric: str, who: str, value: float, role: Role, of: str, ends: tuple[Any, Any] = (None, None)) -> Score:
    better, ideal = METRICS[metric]
    return Score(
        metric=metric, who=who, value=value, role=role, of=of, low=ends[0], high=ends[1], better=better, ideal=ideal
    )


def _mean(mine: Sequence[Judged], who: str, role: Role, metric: str, part: str, seed: int) -> Score:
    values = np.array([one.value(who, metric) for one in mine])
    ends = interval(values, np.mean, seed) if len(values) > 1 else (None, None)
    return _score(metric, who, float(values.mean()), role, part, ends)


def _of_all(mine: Sequence[Judged], who: str, role: Role, part: str) -> Iterator[Score]:
    """Yield what takes more than one number of one state: the calibrated score, and telling perturbations apart."""
    if role == "run":
        value = calibrated(*_means(mine, who))
        yield Score(metric=f"{PEARSON}, calibrated", who=who, value=value, role=role, of=part, ideal=1)
    ranks: list[float] = []
    for context in dict.fromkeys((one.asked, one.case.state[0]) for one in mine):
        each = [one for one in mine if (one.asked, one.case.state[0]) == context]
        if len(each) >= LEAST_LEVELS:
            told = [{**one.told, **one.baselines}[who].mean_g - one.truth.reference_g for one in each]
            ranks += list(discrimination(np.stack(told), np.stack([one.truth.shift_g for one in each])))
    if ranks:
        name, value = "discrimination of perturbations", float(np.mean(ranks))
        yield Score(metric=name, who=who, value=value, role=role, of=part, ideal=1)


def _means(mine: Sequence[Judged], who: str) -> tuple[float, float, float]:
    """Return the mean correlation of a run, of the baseline that it is to beat, and of the ceiling."""
    each = [(one.value(who, PEARSON), one.value(one.usual, PEARSON), one.ceiling) for one in mine]
    run, usual, ceiling = np.mean(each, axis=0).tolist()
    return run, usual, ceiling


def verdicts_of(judged: Sequence[Judged]) -> list[Verdict]:
    """Say of each run where it beats the baseline that matters, held-out answers first."""
    found = []
    for held_out in PARTS:
        here = [one for one in judged if one.case.held_out is held_out]
        for who in dict.fromkeys(name for one in here for name in one.told):
            mine = [one for one in here if who in one.told]
            found += [_against_usual(mine, who, held_out), *_against_best(mine, who, held_out)]
            found.append(_against_no_change(mine, who, held_out))
    return found


def _against_usual(mine: Sequence[Judged], who: str, held_out: bool) -> Verdict:
    lost = [one.case.name for one in mine if one.value(who, PEARSON) <= one.value(one.usual, PEARSON)]
    n, won = len(mine), len(mine) - len(lost)
    usual = " or ".join(dict.fromkeys(one.usual for one in mine))
    means = _means(mine, who)
    tail = f"; loses on {shorten(lost, 5)}" if lost and won else ""
    text = (
        f"{who} beats {usual} on {won or 'none'} of {n} {PARTS[held_out]} (Pearson of the shift {means[0]:.2f} against "
        f"{means[1]:.2f}; noise allows {means[2]:.2f}){tail}."
    )
    return Verdict(text, _tone(won, n))


def _against_best(mine: Sequence[Judged], who: str, held_out: bool) -> list[Verdict]:
    """Name the baseline that does better than a run, where there is one that could be asked for every state."""
    baselines = [name for name in mine[0].baselines if all(name in one.baselines for one in mine)]
    means = {name: float(np.mean([one.value(name, PEARSON) for one in mine])) for name in (who, *baselines)}
    best = max(means, key=lambda name: means[name])
    if best == who:
        return []
    text = f"{best}, which needs no model of cells, does better than {who} on {PARTS[held_out]}"
    return [Verdict(f"{text} (Pearson of the shift {means[best]:.2f} against {means[who]:.2f}).", "bad")]


def _against_no_change(mine: Sequence[Judged], who: str, held_out: bool) -> Verdict:
    def still(one: Judged) -> float:
        return one.value(next(name for name in one.baselines if name.startswith(NO_CHANGE)), E_DISTANCE)

    lost = [one.case.name for one in mine if not one.value(who, E_DISTANCE) < still(one)]
    won = len(mine) - len(lost)
    tail = f"; not for {shorten(lost, 5)}" if lost and won else ""
    text = (
        f"The cells that {who} predicts lie nearer to the true ones than unchanged cells do on {won or 'none'} of "
        f"{len(mine)} {PARTS[held_out]} (E-distance){tail}."
    )
    return Verdict(text, _tone(won, len(mine)))


def _tone(won: int, n: int) -> Any:
    return "good" if won == n else "bad" if 2 * won <= n else "mixed"
