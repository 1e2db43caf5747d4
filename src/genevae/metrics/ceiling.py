"""How well a response could be predicted at best, given the noise of the true cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genevae.metrics.metric import Metric
from genevae.metrics.response import pearson

__all__ = ["CALIBRATED_SHIFT_PEARSON", "calibrated", "spearman_brown", "split_half_ceiling"]

CALIBRATED_SHIFT_PEARSON = Metric(
    "Pearson of the shift, calibrated", "higher", 1,
    "Pearson of the shift on a scale where 0 is the main baseline and 1 is what the noise of the data allows.",
)  # fmt: skip


def split_half_ceiling(x_ng: ArrayLike, reference_g: ArrayLike, seed: int = 0, n_splits: int = 10) -> float:
    """Return the correlation of the shift of these cells with that of as many other such cells.

    The cells are split in two halves at random; r is the mean over splits of Pearson's correlation between the halves'
    shifts from the same reference; and the shift of twice as many cells has 2r / (1 + r) (Spearman and Brown).

    A prediction without noise of its own may exceed it, up to its square root, which nothing can exceed but by chance.

    Parameters
    ----------
    x_ng
        The true cells, log-normalised; four at least.
    reference_g
        The profile from which shifts are measured.
    seed
        Of the splits.
    n_splits
        How many.

    References
    ----------
    Spearman, British Journal of Psychology 3:271 (1910); Brown, ibid. 3:296 (1910).
    """
    x: Any = np.asarray(x_ng)
    if len(x) < 4:
        return float("nan")
    rng, reference = np.random.default_rng(seed), np.asarray(reference_g, dtype=np.float64)
    found = []
    for _ in range(n_splits):
        order = rng.permutation(len(x))
        halves = [x[part].mean(0) - reference for part in np.array_split(order, 2)]
        found.append(pearson(*halves))
    return spearman_brown(float(np.mean(found)))


def spearman_brown(r: float) -> float:
    """Return 2r / (1 + r): the reliability of the whole, from the correlation of its halves; r where it is negative.

    >>> spearman_brown(0.5)
    0.6666666666666666
    """
    return 2 * r / (1 + r) if r > 0 else r


def calibrated(score: float, baseline: float, ceiling: float) -> float:
    """Return (score − baseline) / (ceiling − baseline): zero at the baseline, one at the ceiling.

    NaN where the ceiling is not above the baseline, so that there is nothing to gain.

    >>> calibrated(0.75, 0.5, 1.0)
    0.5
    """
    return (score - baseline) / (ceiling - baseline) if ceiling > baseline else float("nan")
