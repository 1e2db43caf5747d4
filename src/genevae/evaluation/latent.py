"""What a latent tells of the cells' fields, beside principal components of as many dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_LEVELS", "categories_of", "dead_dimensions", "latent_scores"]

MAX_LEVELS = 50
"""Fields with more categories name the cells, or nearly."""
N_NEIGHBOURS = 15
N_FOLDS = 5
DEAD = 1e-2


def categories_of(column: pd.Series[Any]) -> NDArray[Any] | None:
    """Return the category of each cell as text, None where it is missing; nothing at all for other fields.

    A field of categories is one of texts, categories or truth values, with 2 to 50 of them.
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return None
    words = column.astype(object).where(column.notna(), None).map(lambda word: None if word is None else str(word))
    return words.to_numpy(dtype=object) if 2 <= words.nunique() <= MAX_LEVELS else None


def dead_dimensions(mean_nk: ArrayLike) -> int:
    """Count the dimensions that tell nothing: those in which the posterior's mean varies by less than 0.01.

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
        if labels is None:
            continue
        kept = pd.Series(labels).map(pd.Series(labels).value_counts()).fillna(0).to_numpy() > 1
        if len(set(labels[kept])) > 1:
            rows += _score(str(name), {title: z[kept] for title, z in spaces.items()}, labels[kept].astype(str), seed)
    return pd.DataFrame(rows, columns=["field", "score", *spaces, "baseline"])


def _score(field: str, spaces: Mapping[str, NDArray[Any]], labels: NDArray[Any], seed: int) -> list[dict[str, Any]]:
    from sklearn.metrics import calinski_harabasz_score, silhouette_score

    commonest = float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    rows = (
        ("silhouette", {title: silhouette_score(z, labels) for title, z in spaces.items()}, 0.0),
        ("Calinski-Harabasz", {title: calinski_harabasz_score(z, labels) for title, z in spaces.items()}, 1.0),
        ("accuracy of 15 neighbours", {t: _neighbours(z, labels, seed) for t, z in spaces.items()}, commonest),
    )
    return [{"field": field, "score": name, **found, "baseline": baseline} for name, found, baseline in rows]


def _neighbours(z: NDArray[Any], labels: NDArray[Any], seed: int) -> float:
    """Cross-validate: every cell is told by the nearest cells of other folds, whatever the size of its category."""
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    n_folds = min(N_FOLDS, len(z))
    classifier = KNeighborsClassifier(min(N_NEIGHBOURS, len(z) - -(-len(z) // n_folds)))
    folds = KFold(n_folds, shuffle=True, random_state=seed)
    return float(np.mean(cross_val_score(classifier, z, labels, cv=folds)))
