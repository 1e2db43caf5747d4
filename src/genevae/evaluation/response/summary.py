"""The scores of predicted responses, and what they say in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from genevae.errors import shorten
from genevae.evaluation.response.scores import METRICS, Prediction, Table, Truth
from genevae.evaluation.response.states import Case, Perturbation
from genevae.metrics.bootstrap import interval
from genevae.metrics.ceiling import CALIBRATED_SHIFT_PEARSON, calibrated
from genevae.metrics.distances import E_DISTANCE
from genevae.metrics.metric import Metric
from genevae.metrics.ranking import DISCRIMINATION, TOP_OVERLAPS, discrimination
from genevae.metrics.response import SHIFT_MSE, SHIFT_PEARSON
from genevae.report.records import Role, Score, Verdict
from genevae.responses.members import MEAN_SHIFT, NO_CHANGE

__all__ = ["PARTS", "StateResult", "scores_of", "verdicts_of"]

MAIN_BASELINES = (MEAN_SHIFT, "additive", "perturbed mean", NO_CHANGE)
"""The main baseline of a state is the first of these that it has."""
PARTS = {True: "held-out answers", False: "seen combinations"}
"""The states of which no cell was trained on, and the others."""
EACH = (SHIFT_PEARSON, SHIFT_MSE, TOP_OVERLAPS[1], E_DISTANCE)
"""Scores that the report shows for every state; the others as means."""
LEAST_LEVELS = 3


@dataclass(frozen=True, eq=False)
class StateResult:
    """One state, and all predictions of it.

    Parameters
    ----------
    case, perturbation
        The state, and the field that it is a level of.
    genes
        Names.
    truth
        The true cells.
    predictions, baselines
        Predictions of models and of baselines, by name.
    ceilings
        Scores that noise allows.
    """

    case: Case
    perturbation: Perturbation
    genes: tuple[str, ...]
    truth: Truth
    predictions: Mapping[str, Prediction]
    baselines: Mapping[str, Prediction]
    ceilings: Mapping[str, Table]

    @cached_property
    def scores(self) -> dict[str, tuple[Role, Table]]:
        """Every score of the models, the baselines and the ceilings."""
        found: dict[str, tuple[Role, Table]] = {
            name: ("run", self.truth.scores(predicted)) for name, predicted in self.predictions.items()
        }
        found |= {name: ("baseline", self.truth.scores(predicted)) for name, predicted in self.baselines.items()}
        return found | {name: ("ceiling", scores) for name, scores in self.ceilings.items()}

    @property
    def main_baseline(self) -> str:
        """The baseline that a model has to beat."""
        return next(each for name in MAIN_BASELINES for each in self.baselines if each.startswith(name))

    @property
    def ceiling(self) -> float:
        """The ceiling of Pearson's correlation."""
        return next(iter(self.ceilings.values()))[SHIFT_PEARSON]

    def value(self, who: str, metric: Metric) -> float:
        """Return one score."""
        return self.scores[who][1][metric]


def scores_of(results: Sequence[StateResult], seed: int) -> list[Score]:
    """Return means over held-out answers and over seen combinations, and the main scores of each state."""
    found: list[Score] = []
    for held_out, part in PARTS.items():
        here = [one for one in results if one.case.held_out is held_out]
        for who, role in {who: role for one in here for who, (role, _) in one.scores.items()}.items():
            mine = [one for one in here if who in one.scores]
            found += [_mean(mine, who, role, metric, part, seed) for metric in METRICS]
            if role != "ceiling":
                found += _of_all(mine, who, role, part)
    for one in results:
        for who, (role, scores) in one.scores.items():
            found += [Score.of_metric(metric, who, scores[metric], role, one.case.name) for metric in EACH]
    return [score for score in found if not np.isnan(score.value)]


def _mean(mine: Sequence[StateResult], who: str, role: Role, metric: Metric, part: str, seed: int) -> Score:
    values = np.array([one.value(who, metric) for one in mine])
    ends = interval(values, np.mean, seed) if len(values) > 1 else (None, None)
    return Score.of_metric(metric, who, float(values.mean()), role, part, *ends)


def _of_all(mine: Sequence[StateResult], who: str, role: Role, part: str) -> Iterator[Score]:
    """Yield the scores that need several states: the calibrated correlation, and discrimination of perturbations."""
    if role == "run":
        yield Score.of_metric(CALIBRATED_SHIFT_PEARSON, who, calibrated(*_means(mine, who)), role, part)
    ranks: list[float] = []
    for group in dict.fromkeys((one.perturbation, one.case.state[0]) for one in mine):
        each = [one for one in mine if (one.perturbation, one.case.state[0]) == group]
        if len(each) >= LEAST_LEVELS:
            shifts = [{**one.predictions, **one.baselines}[who].mean_g - one.truth.reference_g for one in each]
            ranks += list(discrimination(np.stack(shifts), np.stack([one.truth.shift_g for one in each])))
    if ranks:
        yield Score.of_metric(DISCRIMINATION, who, float(np.mean(ranks)), role, part)


def _means(mine: Sequence[StateResult], who: str) -> tuple[float, float, float]:
    """Return the mean correlation of a model, of its main baseline, and of the ceiling."""
    each = [(one.value(who, SHIFT_PEARSON), one.value(one.main_baseline, SHIFT_PEARSON), one.ceiling) for one in mine]
    model, baseline, ceiling = np.mean(each, axis=0).tolist()
    return model, baseline, ceiling


def verdicts_of(results: Sequence[StateResult]) -> list[Verdict]:
    """Say of each model where it beats its main baseline, held-out answers first."""
    found = []
    for held_out in PARTS:
        here = [one for one in results if one.case.held_out is held_out]
        for who in dict.fromkeys(name for one in here for name in one.predictions):
            mine = [one for one in here if who in one.predictions]
            main, best = _against_main(mine, who, held_out), _against_best(mine, who, held_out)
            found += [replace(main, short="") if best else main, *best]  # the best baseline is what a run has to beat
            found.append(_against_no_change(mine, who, held_out))
    return found


def _against_main(mine: Sequence[StateResult], who: str, held_out: bool) -> Verdict:
    lost = [
        one.case.name for one in mine if one.value(who, SHIFT_PEARSON) <= one.value(one.main_baseline, SHIFT_PEARSON)
    ]
    n, won = len(mine), len(mine) - len(lost)
    baselines = " or ".join(dict.fromkeys(one.main_baseline for one in mine))
    means = _means(mine, who)
    tail = f"; loses on {shorten(lost, 5)}" if lost and won else ""
    text = (
        f"{who} beats {baselines} on {won or 'none'} of {n} {PARTS[held_out]} (Pearson of the shift {means[0]:.2f} "
        f"against {means[1]:.2f}; noise allows {means[2]:.2f}){tail}."
    )
    return Verdict(text, _tone(won, n), who, f"r = {means[0]:.2f} ({baselines} {means[1]:.2f})")


def _against_best(mine: Sequence[StateResult], who: str, held_out: bool) -> list[Verdict]:
    """Name the baseline that does better than a model, among those that predict every state."""
    baselines = [name for name in mine[0].baselines if all(name in one.baselines for one in mine)]
    means = {name: float(np.mean([one.value(name, SHIFT_PEARSON) for one in mine])) for name in (who, *baselines)}
    best = max(means, key=lambda name: means[name])
    if best == who:
        return []
    text = f"{best}, which needs no model of cells, does better than {who} on {PARTS[held_out]}"
    return [
        Verdict(
            f"{text} (Pearson of the shift {means[best]:.2f} against {means[who]:.2f}).",
            "bad",
            who,
            f"r = {means[who]:.2f} ({best} {means[best]:.2f})",
            f"for what-ifs, {best} is the better answer",
        )
    ]


def _against_no_change(mine: Sequence[StateResult], who: str, held_out: bool) -> Verdict:
    def unchanged(one: StateResult) -> float:
        return one.value(next(name for name in one.baselines if name.startswith(NO_CHANGE)), E_DISTANCE)

    lost = [one.case.name for one in mine if not one.value(who, E_DISTANCE) < unchanged(one)]
    won = len(mine) - len(lost)
    tail = f"; not for {shorten(lost, 5)}" if lost and won else ""
    text = (
        f"The cells that {who} predicts lie nearer to the true ones than unchanged cells do on {won or 'none'} of "
        f"{len(mine)} {PARTS[held_out]} (E-distance){tail}."
    )
    return Verdict(text, "plain" if won == len(mine) else _tone(won, len(mine)), who)  # to beat no change is no merit


def _tone(won: int, n: int) -> Any:
    return "good" if won == n else "bad" if 2 * won <= n else "mixed"
