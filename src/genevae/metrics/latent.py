"""How well the fields of cells separate in a latent, beside principal components of as many dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.labels import majority
from genevae.metrics.metric import Metric

__all__ = [
    "CALINSKI_HARABASZ", "DEAD_DIMENSIONS", "DIMENSION_CORRELATION", "MAX_LEVELS", "NEIGHBOUR_ACCURACY", "SCORES",
    "SILHOUETTE", "calinski_harabasz", "categories_of", "correlation_of_dimensions", "dead_dimensions",
    "latent_scores", "right_n", "scored_n", "shown_fields", "silhouette_n",
]  # fmt: skip

SILHOUETTE = Metric(
    "silhouette", "higher", None, "How much nearer a cell lies to its own category than to the next, from −1 to 1.",
    "Rousseeuw, Journal of Computational and Applied Mathematics 20:53 (1987)",
)  # fmt: skip
CALINSKI_HARABASZ = Metric(
    "Calinski-Harabasz", "higher", None, "Variance between categories over that within them.",
    "Caliński and Harabasz, Communications in Statistics 3:1 (1974)",
)  # fmt: skip
NEIGHBOUR_ACCURACY = Metric(
    "accuracy of 15 neighbours", "higher", 1,
    "How often the 15 nearest cells of other folds predict a cell's category right.",
)  # fmt: skip
DEAD_DIMENSIONS = Metric(
    "dead dimensions", "lower", 0,
    "Latent dimensions in which cells hardly differ: their posterior means vary by less than 0.01.",
    "Burda, Grosse and Salakhutdinov, ICLR (2016)",
)  # fmt: skip
DIMENSION_CORRELATION = Metric(
    "correlation of dimensions", "lower", 0,
    "Mean absolute correlation of two latent dimensions; 0 where none repeats another.",
)  # fmt: skip


MAX_LEVELS = 50
"""Fields with more categories name the cells, or nearly."""
N_NEIGHBOURS = 15
N_FOLDS = 5
DEAD = 1e-2
SCORES = (SILHOUETTE, CALINSKI_HARABASZ, NEIGHBOUR_ACCURACY)
"""The scores of a field of categories."""


def categories_of(column: pd.Series[Any]) -> NDArray[Any] | None:
    """Return the category of each cell as text, None where it is missing; nothing at all for other fields.

    A field of categories is one of texts, categories or truth values, with 2 to 50 of them.
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return None
    labels = column.astype(object).where(column.notna(), None).map(lambda label: None if label is None else str(label))
    return labels.to_numpy(dtype=object) if 2 <= labels.nunique() <= MAX_LEVELS else None


def shown_fields(obs: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Return the fields by which a map can be coloured: 2 to 50 categories, or numbers that vary."""
    found: dict[str, NDArray[Any]] = {}
    for name in obs:
        if (labels := categories_of(obs[name])) is not None:
            found[str(name)] = labels
        elif pd.api.types.is_numeric_dtype(obs[name]) and _varies(obs[name]):
            found[str(name)] = obs[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _varies(column: pd.Series[Any]) -> bool:
    known = column.dropna().to_numpy()
    return len(known) > 0 and bool((known != known[0]).any())


def dead_dimensions(mean_nk: ArrayLike) -> int:
    """Count the dimensions that hold nothing: those in which the posterior's mean varies by less than 0.01.

    Parameters
    ----------
    mean_nk
        Posterior means, cells × latent.

    References
    ----------
    Burda, Grosse and Salakhutdinov, ICLR (2016), "active units".

    Examples
    --------
    >>> dead_dimensions([[0.0, 1.0], [0.0, -1.0]])
    1
    """
    return int(np.sum(np.var(np.asarray(mean_nk, dtype=np.float64), axis=0) < DEAD))


def correlation_of_dimensions(z_nk: ArrayLike) -> float:
    """Return how much dimensions repeat each other: the mean over pairs of |Pearson's correlation|.

    Dimensions that do not vary are left out; 0 where fewer than two do.

    >>> correlation_of_dimensions([[0.0, 0.0], [1.0, -2.0], [2.0, -4.0]])
    1.0
    """
    z: Any = np.asarray(z_nk, dtype=np.float64)
    z = z[:, z.std(0) > 1e-12]
    if z.shape[1] < 2:
        return 0.0
    return float(np.mean(np.abs(np.corrcoef(z.T)[np.triu_indices(z.shape[1], 1)])))


def silhouette_n(z_nk: ArrayLike, label_n: ArrayLike) -> NDArray[np.float64]:
    """Return each cell's silhouette, (b − a) / max(a, b): a, b its mean distance to its own and to the nearest label.

    Rousseeuw, Journal of Computational and Applied Mathematics 20:53 (1987).
    """
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(np.asarray(z_nk), np.asarray(label_n)), dtype=np.float64)


def calinski_harabasz(z_nk: ArrayLike, label_n: ArrayLike) -> float:
    """Return the variance between labels over that within them, each by its degrees of freedom.

    Caliński and Harabasz, Communications in Statistics 3:1 (1974).
    """
    from sklearn.metrics import calinski_harabasz_score

    return float(calinski_harabasz_score(np.asarray(z_nk), np.asarray(label_n)))


def right_n(z_nk: ArrayLike, label_n: ArrayLike, seed: int = 0) -> NDArray[np.float64]:
    """Return whether each cell's label is that of most of the 15 nearest cells of other folds (1) or not (0).

    Five folds, whatever the size of a category.

    Parameters
    ----------
    z_nk
        Coordinates.
    label_n
        The label of each cell.
    seed
        Of the folds.
    """
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    z, labels = np.asarray(z_nk), np.asarray(label_n)
    n_folds = min(N_FOLDS, len(z))
    classifier = KNeighborsClassifier(min(N_NEIGHBOURS, len(z) - -(-len(z) // n_folds)))
    folds = KFold(n_folds, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(classifier, z, labels, cv=folds) == labels, dtype=np.float64)


def latent_scores(spaces: Mapping[str, NDArray[Any]], obs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Score how well each field's categories lie apart in some spaces.

    Parameters
    ----------
    spaces
        For each title, coordinates (cells × dimensions).
    obs
        One row per cell; cells without a value do not count for that field, nor do categories of one cell.
    seed
        Of the folds.

    Returns
    -------
    DataFrame
        For each field three rows: ``field``, ``score``, a column per space, and ``baseline``. The scores are the mean
        silhouette (−1 to 1), the Calinski–Harabasz index (between over within variance), and the accuracy of 15
        nearest neighbours in 5-fold cross-validation; its baseline is the share of the commonest category, and the
        others' what labels without any order would have.
    """
    rows = []
    for name in obs:
        labels = categories_of(obs[name])
        kept = None if labels is None else scored_n(labels)
        if labels is not None and kept is not None and len(set(labels[kept])) > 1:
            rows += _score(str(name), {title: z[kept] for title, z in spaces.items()}, labels[kept].astype(str), seed)
    return pd.DataFrame(rows, columns=["field", "score", *spaces, "baseline"])


def scored_n(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which cells count for a field: those with a value that another cell has too."""
    column = pd.Series(labels)
    return np.asarray(column.map(column.value_counts()).fillna(0).to_numpy() > 1)


def _score(field: str, spaces: Mapping[str, NDArray[Any]], labels: NDArray[Any], seed: int) -> list[dict[str, Any]]:
    found = (
        ({title: float(silhouette_n(z, labels).mean()) for title, z in spaces.items()}, 0.0),
        ({title: calinski_harabasz(z, labels) for title, z in spaces.items()}, 1.0),
        ({title: float(right_n(z, labels, seed).mean()) for title, z in spaces.items()}, majority(labels).share),
    )
    return [
        {"field": field, "score": metric.name, **values, "baseline": baseline}
        for metric, (values, baseline) in zip(SCORES, found, strict=True)
    ]
