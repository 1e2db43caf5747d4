"""How well a perturbed state was predicted: every score of every prediction of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.evaluation.context import Metric
from genevae.metrics import response
from genevae.metrics.ceiling import split_half_ceiling
from genevae.metrics.distances import e_distance, mmd, median_distance
from genevae.metrics.principal import Principal
from genevae.metrics.ranking import standard_error, top_genes, top_overlap

__all__ = ["E_DISTANCE", "METRICS", "MSE", "OVERLAP", "PEARSON", "Prediction", "Truth"]

PEARSON = "Pearson of the shift"
MSE = "mean squared error of the shift"
E_DISTANCE = "E-distance to the true cells"
OVERLAP = "overlap of the top 50 genes"
N_CLEAR = 100
"""Genes whose direction is compared: those that truly respond most surely."""

Numbers = NDArray[Any]


METRICS: Mapping[str, Metric] = {
    PEARSON: Metric("higher", 1),
    "Pearson of the shift from the mean perturbation": Metric("higher", 1),
    MSE: Metric("lower", 0),
    "mean absolute error of the shift": Metric("lower", 0),
    "cosine of the shift": Metric("higher", 1),
    "squared Pearson of the profile (R² of scGen)": Metric("higher", 1),
    "R² of the profile": Metric("higher", 1),
    "overlap of the top 20 genes": Metric("higher", 1),
    OVERLAP: Metric("higher", 1),
    "overlap of the top 100 genes": Metric("higher", 1),
    "agreement of direction": Metric("higher", 1),
    E_DISTANCE: Metric("lower", 0),
    "MMD to the true cells": Metric("lower", 0),
}


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted cells, log-normalised, and their mean."""

    x_ng: Numbers
    mean_g: Numbers

    @classmethod
    def moved(cls, control_ng: Numbers, shift_g: Numbers) -> Prediction:
        """Say that every control cell shifts alike: what a baseline that knows no cells says of cells."""
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

    def scores(self, told: Prediction) -> dict[str, float]:
        """Return every score of a prediction, in the order of METRICS; NaN where there is none.

        Genes are ranked by their shift over its standard error in the true cells (Welch's t), the same for all
        predictions, since a shift that is the same for all cells has no error of its own.
        """
        true_g, start_g = self.x_ng.mean(0), self.reference_g
        shift_g, error_g = told.mean_g - start_g, standard_error(self.control_ng, self.x_ng)
        found_g, surely_g = (np.divide(x, error_g, out=0 * x, where=error_g > 0) for x in (shift_g, self.shift_g))
        cells, made = (self.space.embed(x) for x in (self.x_ng, told.x_ng))
        values = [
            response.pearson_delta(told.mean_g, true_g, start_g),
            np.nan if self.centre_g is None else response.pearson_delta(told.mean_g, true_g, self.centre_g),
            response.mean_squared_error(told.mean_g, true_g),
            response.mean_absolute_error(told.mean_g, true_g),
            response.cosine(shift_g, self.shift_g),
            response.squared_pearson(told.mean_g, true_g),
            response.r2_score(told.mean_g, true_g),
            *(top_overlap(found_g, surely_g, k) for k in (20, 50, 100)),
            response.direction_agreement(shift_g, self.shift_g, top_genes(surely_g, N_CLEAR)),
            e_distance(cells, made),
            mmd(cells, made, median_distance(cells)),
        ]
        return dict(zip(METRICS, values, strict=True))

    def ceiling(self, seed: int) -> dict[str, float]:
        """Return what one half of the true cells says of the other; the correlation, of as many cells as there are."""
        rows = np.random.default_rng(seed).permutation(len(self.x_ng))
        half, other = (self.x_ng[part] for part in np.array_split(rows, 2))
        found = Truth(self.control_ng, half, self.centre_g, self.space).scores(Prediction(other, other.mean(0)))
        return found | {PEARSON: split_half_ceiling(self.x_ng, self.reference_g, seed)}
