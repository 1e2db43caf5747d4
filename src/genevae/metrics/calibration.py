"""Whether values fall where a model says they would, and how often.

All of it reads two numbers per value: the probability that the model gave to smaller values, F(x⁻), and to values no
larger, F(x). For counts they differ by p(x); for continuous values they are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.metric import Metric

__all__ = [
    "COVERAGE", "CRPS", "PIT", "PREDICTIVE_P", "covered", "crps", "distance_from_uniform", "pit",
    "pit_histogram", "predictive_p",
]  # fmt: skip

COVERAGE = Metric(
    "coverage of 90 % intervals", "closer", 0.9, "Share of the values that fall in their 90 % intervals.",
    "Czado, Gneiting and Held, Biometrics 65:1254 (2009)",
)  # fmt: skip
PIT = Metric(
    "PIT, distance from uniform", "lower", 0,
    "Ranks of values in their predicted distributions are uniform where those are right. The largest gap to that "
    "(Kolmogorov and Smirnov).",
    "Czado, Gneiting and Held, Biometrics 65:1254 (2009)",
)  # fmt: skip
CRPS = Metric(
    "CRPS", "lower", 0,
    "Distance of a predicted distribution from the observed value (continuous ranked probability score).",
    "Gneiting and Raftery, Journal of the American Statistical Association 102:359 (2007)",
)  # fmt: skip
PREDICTIVE_P = Metric(
    "predictive p-value", "closer", 0.5,
    "How often data that the model generates have more of something than the real data; near 0 or 1 they differ.",
    "Gelman, Meng and Stern, Statistica Sinica 6:733 (1996)",
)  # fmt: skip


def pit(below: ArrayLike, at: ArrayLike, seed: int = 0) -> NDArray[np.float64]:
    """Draw the randomised probability integral transform: u ~ Uniform(F(x⁻), F(x)).

    Under the true model u is uniform, for counts too.

    Parameters
    ----------
    below, at
        F(x⁻) and F(x) of each value.
    seed
        Of the draws.

    References
    ----------
    Czado, Gneiting and Held, Biometrics 65:1254 (2009).
    """
    low: Any = np.asarray(below, dtype=np.float64)
    width = np.maximum(np.asarray(at, dtype=np.float64) - low, 0)
    return np.asarray(low + width * np.random.default_rng(seed).random(low.shape))


def distance_from_uniform(u: ArrayLike) -> float:
    """Return Kolmogorov and Smirnov's distance sup |F_n(t) − t| of some numbers from the uniform distribution.

    >>> distance_from_uniform([0.5])
    0.5
    """
    ordered = np.sort(np.asarray(u, dtype=np.float64), axis=None)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def covered(below: ArrayLike, at: ArrayLike, level: float = 0.9) -> NDArray[np.float64]:
    """Return how much of each value lies in the central interval of a level; the mean is level, under the true model.

    The chance that Uniform(F(x⁻), F(x)) lies within (1 − level)/2 and (1 + level)/2. An interval of whole counts would
    hold more than its level, most of all where zero has most of the probability; this is exact for counts too.

    Parameters
    ----------
    below, at
        F(x⁻) and F(x) of each value.
    level
        Probability of the interval.

    References
    ----------
    Czado, Gneiting and Held, Biometrics 65:1254 (2009).
    """
    return _share_within(below, at, (1 - level) / 2, (1 + level) / 2)


def pit_histogram(below: ArrayLike, at: ArrayLike, n_bins: int = 10) -> NDArray[np.float64]:
    """Return the density of the probability integral transform in equal bins: 1 in each, under the true model.

    A peak in the middle means that intervals are too wide, peaks at both ends that they are too narrow. Nothing is
    drawn: each value is spread evenly from F(x⁻) to F(x).

    References
    ----------
    Czado, Gneiting and Held, Biometrics 65:1254 (2009), the non-randomised histogram.
    """
    edges = np.linspace(0, 1, n_bins + 1)
    edges[-1] = np.inf  # so that F(x) = 1 belongs to the last bin
    return np.array([n_bins * _share_within(below, at, *edges[b : b + 2]).mean() for b in range(n_bins)])


def _share_within(below: ArrayLike, at: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """Return the share of each stretch from F(x⁻) to F(x) that lies within two numbers; of a point, one or zero."""
    start: Any = np.asarray(below, dtype=np.float64)
    end: Any = np.asarray(at, dtype=np.float64)
    width = end - start
    inside = np.clip(np.minimum(end, high) - np.maximum(start, low), 0, None)
    point = ((end >= low) & (end < high)).astype(np.float64)
    return np.asarray(np.divide(inside, width, out=point, where=width > 1e-12))


def crps(x: ArrayLike, sample_s: ArrayLike) -> NDArray[np.float64]:
    """Return the continuous ranked probability score of each value: E|X − x| − ½ E|X − X'|, lower is better.

    In the units of x; of a forecast without spread it is the absolute error. Without bias from the number of draws.

    Parameters
    ----------
    x
        Values, of any shape.
    sample_s
        Draws from the model: the same shape, with an axis of two draws or more in front.

    References
    ----------
    Gneiting and Raftery, Journal of the American Statistical Association 102:359 (2007); Ferro, Quarterly Journal of
    the Royal Meteorological Society 140:1917 (2014), the fair estimate.

    Examples
    --------
    >>> crps([1.0], [[3.0], [3.0]])
    array([2.])
    """
    samples: Any = np.sort(np.asarray(sample_s, dtype=np.float64), axis=0)
    n = len(samples)
    weight_s = (2 * np.arange(1, n + 1) - n - 1) / (n * (n - 1))
    return np.asarray(np.abs(samples - np.asarray(x)).mean(0) - np.tensordot(weight_s, samples, 1))


def predictive_p(x: ArrayLike, sample_s: ArrayLike, statistic: Callable[[Any], float]) -> float:
    """Return the Bayesian p-value of a statistic: the chance that replicated data have more of it than the data.

    P(T(X) > T(x)) + ½ P(T(X) = T(x)): near 0.5 where the model makes data like these; near 0 or 1 where it does not.

    Parameters
    ----------
    x
        The data.
    sample_s
        Replicated data: the same shape, with an axis in front.
    statistic
        Makes one number of data, as the share of zeros.

    References
    ----------
    Gelman, Meng and Stern, Statistica Sinica 6:733 (1996).
    """
    seen = statistic(np.asarray(x))
    made = np.array([statistic(sample) for sample in np.asarray(sample_s)])
    return float(np.mean(made > seen) + np.mean(made == seen) / 2)
