"""Dose-response curves as a table, and EC50: the dose of half the maximal effect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["curve_table", "half_effect_dose"]


def curve_table(
    genes: Sequence[str],
    dose_d: Sequence[float],
    mean_dg: NDArray[np.float64],
    lower_dg: NDArray[np.float64],
    upper_dg: NDArray[np.float64],
    least_change: float,
) -> pd.DataFrame:
    """Tabulate the curve of each gene, one row per dose: mean, interval, largest change and EC50.

    Parameters
    ----------
    genes
        Gene names.
    dose_d
        Doses, ascending, the first of them zero.
    mean_dg, lower_dg, upper_dg
        Mean expression at each dose, and its interval.
    least_change
        Genes whose expression changes by less than this share of its maximum have no EC50.
    """
    change_dg = mean_dg - mean_dg[0]
    largest_g = np.take_along_axis(change_dg, np.abs(change_dg).argmax(0)[None], 0)[0]
    ec50 = [
        half_effect_dose(dose_d, change_d) if abs(largest) >= least_change * np.abs(mean_d).max() else np.nan
        for change_d, mean_d, largest in zip(change_dg.T, mean_dg.T, largest_g, strict=True)
    ]
    n_doses = len(dose_d)
    return pd.DataFrame(
        {
            "dose": np.tile(dose_d, len(genes)),
            "mean": mean_dg.T.ravel(),
            "lower": lower_dg.T.ravel(),
            "upper": upper_dg.T.ravel(),
            "max_effect": np.repeat(largest_g, n_doses),
            "ec50": np.repeat(ec50, n_doses),
        },
        index=pd.Index(np.repeat(np.asarray(genes, dtype=object), n_doses), name="gene"),
    )


def half_effect_dose(dose_d: Sequence[float], change_d: NDArray[np.float64]) -> float:
    """Return the dose at which a change first reaches half of its largest value, by interpolation in log(dose).

    Parameters
    ----------
    dose_d
        Doses, ascending, the first of them zero.
    change_d
        Change from dose zero. The result is NaN if the lowest dose above zero already reaches half.

    Examples
    --------
    >>> half_effect_dose([0, 1, 100], np.array([0.0, 0.0, 4.0]))
    10.0
    """
    largest = change_d[np.abs(change_d).argmax()]
    if largest == 0:
        return np.nan
    effect_d = change_d / largest
    after = int(np.argmax(effect_d >= 0.5))
    if after < 2:  # the half effect lies between dose zero, which has no logarithm, and the lowest dose
        return np.nan
    share = (0.5 - effect_d[after - 1]) / (effect_d[after] - effect_d[after - 1])
    low, high = np.log(dose_d[after - 1]), np.log(dose_d[after])
    return float(round(np.exp(low + share * (high - low)), 12))
