"""How well a perturbed state is predicted: every score of every prediction of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.evaluation.model import ShiftInterval
from genevae.metrics import response
from genevae.metrics.ceiling import split_half_ceiling
from genevae.metrics.distances import E_DISTANCE, MMD, e_distance, median_distance, mmd
from genevae.metrics.metric import Metric
from genevae.metrics.principal import Principal
from genevae.metrics.ranking import TOP_OVERLAPS, TOP_SIZES, standard_error, top_genes, top_overlap

__all__ = ["METRICS", "Prediction", "Table", "Truth"]

N_CLEAR = 100
"""Genes whose direction is compared: those that truly respond most surely."""

Numbers = NDArray[Any]
Table = dict[Metric, float]


METRICS: tuple[Metric, ...] = (
    response.SHIFT_PEARSON,
    response.CENTRED_SHIFT_PEARSON,
    response.SHIFT_MSE,
    response.SHIFT_MAE,
    response.SHIFT_COSINE,
    response.PROFILE_SQUARED_PEARSON,
    response.PROFILE_R2,
    *TOP_OVERLAPS,
    response.DIRECTION_AGREEMENT,
    response.SHIFT_COVERAGE,
    E_DISTANCE,
    MMD,
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted cells, log-normalised, and their mean.

    Parameters
    ----------
    x_ng, mean_g
        The cells, and their mean.
    interval
        The 90 % interval of the shift and the members of the answer, where a model has them.
    """

    x_ng: Numbers
    mean_g: Numbers
    interval: ShiftInterval | None = None

    def coverage(self, shift_g: Numbers) -> float:
        """Return the share of the genes whose true shift is in its interval; NaN where there is none."""
        if self.interval is None or np.isnan(self.interval.lower_g).any():
            return float("nan")
        return float(np.mean((self.interval.lower_g <= shift_g) & (shift_g <= self.interval.upper_g)))

    @classmethod
    def shifted(cls, control_ng: Numbers, shift_g: Numbers) -> Prediction:
        """Shift every control cell alike, as a baseline without a model of cells does."""
        x_ng = control_ng + shift_g
        return cls(x_ng, x_ng.mean(0))


@dataclass(frozen=True, eq=False)
class Truth:
    """The cells of a state, and what they are compared in.

    Parameters
    ----------
    control_ng, x_ng
        Control cells, and those of the state, log-normalised.
    centre_g
        The mean profile of all perturbations of the context, where more than one was trained on.
    space
        Principal components that distances are taken in.
    """

    control_ng: Numbers
    x_ng: Numbers
    centre_g: Numbers | None
    space: Principal

    @property
    def reference_g(self) -> Numbers:
        """The profile of the control cells."""
        return np.asarray(self.control_ng.mean(0))

    @property
    def shift_g(self) -> Numbers:
        """The true shift."""
        return np.asarray(self.x_ng.mean(0) - self.reference_g)

    def scores(self, predicted: Prediction) -> Table:
        """Return every score of a prediction, in the order of METRICS; NaN where there is none.

        Genes are ranked by their shift over its standard error in the true cells (Welch's t), the same for all
        predictions, since a shift that is the same for all cells has no error of its own.
        """
        true_g, start_g = self.x_ng.mean(0), self.reference_g
        shift_g, error_g = predicted.mean_g - start_g, standard_error(self.control_ng, self.x_ng)
        found_g, surely_g = (np.divide(x, error_g, out=0 * x, where=error_g > 0) for x in (shift_g, self.shift_g))
        cells, made = (self.space.embed(x) for x in (self.x_ng, predicted.x_ng))
        values = [
            response.pearson_delta(predicted.mean_g, true_g, start_g),
            np.nan if self.centre_g is None else response.pearson_delta(predicted.mean_g, true_g, self.centre_g),
            response.mean_squared_error(predicted.mean_g, true_g),
            response.mean_absolute_error(predicted.mean_g, true_g),
            response.cosine(shift_g, self.shift_g),
            response.squared_pearson(predicted.mean_g, true_g),
            response.r2_score(predicted.mean_g, true_g),
            *(top_overlap(found_g, surely_g, k) for k in TOP_SIZES),
            response.direction_agreement(shift_g, self.shift_g, top_genes(surely_g, N_CLEAR)),
            predicted.coverage(self.shift_g),
            e_distance(cells, made),
            mmd(cells, made, median_distance(cells)),
        ]
        return dict(zip(METRICS, values, strict=True))

    def ceiling(self, seed: int) -> Table:
        """Score one half of the true cells as a prediction of the other; the correlation is corrected to all cells."""
        rows = np.random.default_rng(seed).permutation(len(self.x_ng))
        half, other = (self.x_ng[part] for part in np.array_split(rows, 2))
        found = Truth(self.control_ng, half, self.centre_g, self.space).scores(Prediction(other, other.mean(0)))
        return found | {response.SHIFT_PEARSON: split_half_ceiling(self.x_ng, self.reference_g, seed)}
