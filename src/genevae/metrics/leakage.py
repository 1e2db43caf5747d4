"""How much of a label, such as the technical batch, can be read from a latent by a classifier of one's own."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Reader", "chance", "local_mixing", "readable", "readable_n", "readable_number"]

Reader = Literal["logistic", "neighbours"]

N_NEIGHBOURS = 15
N_FOLDS = 5


def readable(z_nk: ArrayLike, label_n: ArrayLike, reader: Reader = "logistic", seed: int = 0) -> float:
    """Return the accuracy with which a label is told from points, on points that the classifier was not given.

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
    """Return whether each point's label was told right (1) or not (0), as :func:`readable` asks.

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
    told = cross_val_predict(make_pipeline(StandardScaler(), classifier), np.asarray(z_nk), labels, cv=folds)
    return np.asarray(told == labels, dtype=np.float64)


def readable_number(z_nk: ArrayLike, value_n: ArrayLike, seed: int = 0) -> float:
    """Return the R² with which a number is told from points: 1 − squared errors / squared distances from the mean.

    Ridge regression (weight 1) on standardised dimensions, five-fold cross-validation; below 0 where the mean tells
    more, and 0 for a number that does not vary.

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
    told = cross_val_predict(make_pipeline(StandardScaler(), Ridge()), np.asarray(z_nk), value, cv=folds)
    return 1 - float(np.square(value - told).sum()) / about_mean


def chance(label_n: ArrayLike) -> float:
    """Return the share of the commonest label: what is reached by a classifier that sees nothing.

    >>> chance(["a", "a", "b", "c"])
    0.5
    """
    return float(np.unique(np.asarray(label_n), return_counts=True)[1].max() / np.size(label_n))


def local_mixing(z_nk: ArrayLike, label_n: ArrayLike, n_neighbours: int = 30) -> float:
    """Return how many labels meet around a point: the mean of 1 / Σ_c p_c², p the shares among its nearest neighbours.

    From 1, where every point has its own label around it, to the number of labels. As the integration score iLISI, with
    equal weights for all neighbours.

    Parameters
    ----------
    z_nk
        Points.
    label_n
        The label of each.
    n_neighbours
        Neighbours of a point, without itself.

    References
    ----------
    Korsunsky et al., Nature Methods 16:1289 (2019).
    """
    from sklearn.neighbors import NearestNeighbors

    _, code_n = np.unique(np.asarray(label_n), return_inverse=True)
    near = NearestNeighbors(n_neighbors=n_neighbours).fit(np.asarray(z_nk)).kneighbors(return_distance=False)
    share_nc = np.stack([(code_n[near] == code).mean(1) for code in range(code_n.max() + 1)], 1)
    return float(np.mean(1 / np.square(share_nc).sum(1)))
