"""How much of a label, such as the technical batch, can be read from a latent by an independent classifier."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.labels import majority
from genevae.metrics.metric import Metric
from genevae.metrics.neighbourhoods import lisi_n, nearest_cells

__all__ = ["LEAKAGE", "NUMBER_LEAKAGE", "Reader", "chance", "local_mixing", "readable", "readable_n", "readable_number"]

LEAKAGE = Metric(
    "leakage", "lower", None,
    "How often a condition that the model was given can be read from the latent, which need not hold it.",
)  # fmt: skip
NUMBER_LEAKAGE = Metric(
    "leakage (R²)", "lower", 0, "The same for numbers: the share of their variance that can be read from the latent."
)


Reader = Literal["logistic", "neighbours"]

N_NEIGHBOURS = 15
N_FOLDS = 5


def readable(z_nk: ArrayLike, label_n: ArrayLike, reader: Reader = "logistic", seed: int = 0) -> float:
    """Return the accuracy with which a label is predicted from points, by cross-validation.

    Five-fold cross-validation, each fold with the label's own proportions; every dimension is standardised.

    Parameters
    ----------
    z_nk
        Points.
    label_n
        The label of each.
    reader
        Logistic regression, which reads what lies in one direction; or the 15 nearest neighbours, which read any shape.
    seed
        Of the folds.
    """
    return float(np.mean(readable_n(z_nk, label_n, reader, seed)))


def readable_n(z_nk: ArrayLike, label_n: ArrayLike, reader: Reader = "logistic", seed: int = 0) -> NDArray[np.float64]:
    """Return whether each point's label was predicted right (1) or not (0); see :func:`readable`.

    Every label must come five times or more, so that each fold has it.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels: Any = np.asarray(label_n)
    classifier: Any = (
        LogisticRegression(max_iter=2000) if reader == "logistic" else KNeighborsClassifier(n_neighbors=N_NEIGHBOURS)
    )
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    predicted_n = cross_val_predict(make_pipeline(StandardScaler(), classifier), np.asarray(z_nk), labels, cv=folds)
    return np.asarray(predicted_n == labels, dtype=np.float64)


def readable_number(z_nk: ArrayLike, value_n: ArrayLike, seed: int = 0) -> float:
    """Return the R² with which a number is predicted from points: 1 − squared errors / squared distances from the mean.

    Ridge regression (weight 1) on standardised dimensions, five-fold cross-validation; below 0 where the mean is
    better, and 0 for a number that does not vary.

    Parameters
    ----------
    z_nk
        Points.
    value_n
        The number of each.
    seed
        Of the folds.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    value: Any = np.asarray(value_n, dtype=np.float64)
    about_mean = float(np.square(value - value.mean()).sum())
    if about_mean <= 0:
        return 0.0
    folds = KFold(N_FOLDS, shuffle=True, random_state=seed)
    predicted_n = cross_val_predict(make_pipeline(StandardScaler(), Ridge()), np.asarray(z_nk), value, cv=folds)
    return 1 - float(np.square(value - predicted_n).sum()) / about_mean


def chance(label_n: ArrayLike) -> float:
    """Return the share of the commonest label: the accuracy of a classifier that sees nothing.

    >>> chance(["a", "a", "b", "c"])
    0.5
    """
    return majority(label_n).share


def local_mixing(z_nk: ArrayLike, label_n: ArrayLike, n_neighbours: int = 30) -> float:
    """Return how many labels meet around a point: the mean of :func:`~genevae.metrics.neighbourhoods.lisi_n`.

    Parameters
    ----------
    z_nk
        Points.
    label_n
        The label of each.
    n_neighbours
        The perplexity: three times as many neighbours are weighted by their distance.

    References
    ----------
    Korsunsky et al., Nature Methods 16:1289 (2019).
    """
    return float(lisi_n(nearest_cells(z_nk, 3 * n_neighbours + 1), label_n).mean())
