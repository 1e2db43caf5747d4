"""Whether simulated cells resemble real ones.

Cells that are right one gene at a time may still be recognised at once, and cells that no classifier recognises may be
copies of the training cells: no single number is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.distances import nearest_distances
from genevae.metrics.metric import Metric
from genevae.metrics.neighbourhoods import Near
from genevae.metrics.response import pearson

__all__ = [
    "FOREST_AUC", "MEMBERSHIP_AUROC", "MEMORISATION", "NEIGHBOUR_ACCURACY", "PROPERTY_DISTANCES", "TYPE_CORRELATION",
    "TYPE_SLOPE", "Line", "fold_changes", "ks_distance", "line", "membership_auroc", "memorisation",
    "neighbour_accuracy", "properties", "two_sample_auc",
]  # fmt: skip

FOREST_AUC = Metric(
    "AUC of a random forest, simulated against real", "closer", 0.5,
    "How well a random forest distinguishes simulated from real cells; 0.5 is chance.",
    "Lopez-Paz and Oquab, ICLR (2017)",
)  # fmt: skip
NEIGHBOUR_ACCURACY = Metric(
    "accuracy of the nearest neighbour, simulated against real", "closer", 0.5,
    "How often the nearest other cell is of the same source, simulated or real; 0.5 where they mix, 0 for copies.",
    "Lopez-Paz and Oquab, ICLR (2017)",
)  # fmt: skip
MEMBERSHIP_AUROC = Metric(
    "AUROC of membership in the training cells", "closer", 0.5,
    "How well nearness to simulated cells separates training cells from other real ones; 0.5 is chance.",
    "Chen, Yu, Zhang and Fritz, CCS (2020)",
)  # fmt: skip
MEMORISATION = Metric(
    "distance to training cells, over that of real cells", "closer", 1,
    "How far a simulated cell is from the nearest training cell, beside a real one; far below 1, it is a copy.",
    "Meehan, Chaudhuri and Dasgupta, AISTATS (2020)",
)  # fmt: skip
TYPE_SLOPE = Metric(
    "slope of differences between types", "closer", 1,
    "How large simulated differences between types are; 1 is as large as real ones.",
)  # fmt: skip
TYPE_CORRELATION = Metric(
    "correlation of differences between types", "higher", 1,
    "Correlation over genes of simulated and real differences of types.",
)  # fmt: skip
PROPERTY_DISTANCES = {
    name: Metric(
        f"distance of {name}", "lower", 0,
        "Largest gap between the cumulative shares of simulated and real genes or cells (Kolmogorov and Smirnov).",
        "Cao, Yang and Yang, Nature Communications 12:6911 (2021)",
    )
    for name in ("mean", "variance", "gene correlation", "cell correlation", "zero fraction", "library size")
}  # fmt: skip
"""The metric of each of :func:`properties`."""


MAX_GENES = 200
"""Genes whose correlations are compared: those with the highest mean, as those of the others are mostly noise."""
MAX_PAIRED = 300
"""Cells whose correlations with each other are compared."""


class Line(NamedTuple):
    """A least-squares line, and Pearson's correlation."""

    slope: float
    correlation: float


def ks_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return sup_t |F_a(t) − F_b(t)|: the largest gap between two cumulative shares, from 0 to 1.

    References
    ----------
    Kolmogorov (1933); Smirnov (1939). For simulated cells: Cao, Yang and Yang, Nature Communications 12:6911 (2021).

    Examples
    --------
    >>> ks_distance([1, 2], [1, 2, 3, 4])
    0.5
    """
    x, y = np.sort(np.asarray(a, dtype=np.float64)), np.sort(np.asarray(b, dtype=np.float64))
    at = np.concatenate([x, y])
    gap = np.searchsorted(x, at, "right") / len(x) - np.searchsorted(y, at, "right") / len(y)
    return float(np.abs(gap).max())


def properties(
    values_ng: ArrayLike, counts_ng: ArrayLike | None, genes: NDArray[np.int64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return what is compared of some cells: a number per gene, per pair of genes, per pair of cells, or per cell.

    Parameters
    ----------
    values_ng
        Log-normalised expression.
    counts_ng
        The counts themselves, where there are any; without them nothing is said of zeros and library sizes.
    genes
        Places of the genes whose correlations count; by default the 200 with the highest mean. Give those of the real
        cells for the simulated ones too.

    Returns
    -------
    dict
        ``mean`` and ``variance`` of each gene, ``gene correlation`` and ``cell correlation`` (Pearson's, of every
        pair), and for counts ``zero fraction`` of each gene and ``library size`` of each cell.
    """
    x: Any = np.asarray(values_ng, dtype=np.float64)
    chosen = common_genes(x) if genes is None else genes
    found = {
        "mean": x.mean(0),
        "variance": x.var(0),
        "gene correlation": _pairwise(x[:, chosen].T),
        "cell correlation": _pairwise(x[:: max(1, len(x) // MAX_PAIRED)]),
    }
    if counts_ng is not None:
        counts: Any = np.asarray(counts_ng)
        found |= {"zero fraction": (counts == 0).mean(0), "library size": counts.sum(1).astype(np.float64)}
    return found


def common_genes(values_ng: ArrayLike) -> NDArray[np.int64]:
    """Return the places of the genes with the highest mean, in order of the genes."""
    return np.sort(np.argsort(-np.asarray(values_ng, dtype=np.float64).mean(0), kind="stable")[:MAX_GENES])


def _pairwise(x_mg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's correlation of every pair of rows; zero where a row does not vary."""
    centred = x_mg - x_mg.mean(1, keepdims=True)
    norm = np.sqrt(np.square(centred).sum(1, keepdims=True))
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    return np.asarray((unit @ unit.T)[np.triu_indices(len(unit), 1)])


def two_sample_auc(
    real_ng: ArrayLike, made_ng: ArrayLike, seed: int = 0, n_trees: int = 100, n_folds: int = 5
) -> float:
    """Return how well a random forest distinguishes real cells from made ones: the area under its ROC curve.

    0.5 where it cannot, 1 where it always can; of cells that it was not given, by cross-validation.

    Parameters
    ----------
    real_ng, made_ng
        Log-normalised expression of about as many cells each.
    seed
        Of the folds and the forest.
    n_trees, n_folds
        Trees of the forest, and parts of the cross-validation.

    References
    ----------
    Lopez-Paz and Oquab, ICLR (2017), "Revisiting classifier two-sample tests".
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    groups = [np.asarray(each, dtype=np.float32) for each in (real_ng, made_ng)]
    x, y = np.concatenate(groups), np.repeat([0, 1], [len(each) for each in groups])
    forest = RandomForestClassifier(n_trees, random_state=seed, min_samples_leaf=2, n_jobs=1)
    folds = StratifiedKFold(min(n_folds, int(np.bincount(y).min())), shuffle=True, random_state=seed)
    return float(roc_auc_score(y, cross_val_predict(forest, x, y, cv=folds, method="predict_proba")[:, 1]))


def neighbour_accuracy(near: Near, source_n: ArrayLike) -> float:
    """Return the share of cells whose nearest other cell has their own source: 1-NN, leaving one out.

    About 0.5 for two equally large samples of one distribution, one where they lie apart, zero where each cell of one
    source is a copy of a cell of the other.

    Parameters
    ----------
    near
        The nearest cells of each, two or more.
    source_n
        The source of each cell, such as real and simulated.

    References
    ----------
    Lopez-Paz and Oquab, ICLR (2017), "Revisiting classifier two-sample tests".
    """
    source: Any = np.asarray(source_n)
    first_n = near.is_other_nj.argmax(1)
    return float((source[near.index_nj[np.arange(len(source)), first_n]] == source).mean())


def membership_auroc(made_nk: ArrayLike, held_out_nk: ArrayLike, train_nk: ArrayLike) -> float:
    """Return how well nearness to made cells separates training cells from held-out ones: the area under the ROC curve.

    The probability that a training cell is nearer to its nearest made cell than a held-out cell is to its own; ties
    count a half. 0.5 where made cells give nothing away, 1 for copies of all training cells.

    Parameters
    ----------
    made_nk, held_out_nk, train_nk
        Cells in the same space, such as principal components.

    References
    ----------
    Chen, Yu, Zhang and Fritz, CCS (2020), "GAN-Leaks".
    """
    from sklearn.metrics import roc_auc_score

    groups = [nearest_distances(each, made_nk) for each in (held_out_nk, train_nk)]
    is_member = np.repeat([0, 1], [len(each) for each in groups])
    return float(roc_auc_score(is_member, -np.concatenate(groups)))


def fold_changes(values_ng: ArrayLike, type_n: ArrayLike, least: int = 1) -> dict[str, NDArray[np.float64]]:
    """Return for every type its mean log-normalised expression less that of all other cells, per gene.

    Parameters
    ----------
    values_ng
        Log-normalised expression.
    type_n
        The type of each cell; two types at least.
    least
        Cells of a type at least, for it to be compared with the others.
    """
    x, types = np.asarray(values_ng, dtype=np.float64), np.asarray(type_n)
    names, counts = np.unique(types, return_counts=True)
    return {str(t): x[types == t].mean(0) - x[types != t].mean(0) for t in names[counts >= least]}


def line(real: Mapping[str, ArrayLike], made: Mapping[str, ArrayLike]) -> Line:
    """Return slope and correlation of made numbers over real ones, all names together.

    slope = Cov(real, made) / Var(real). Below one, differences between types have been smoothed away; noise of the real
    numbers also lowers it, so that it is to be read beside that of other real cells.
    """
    x, y = (np.concatenate([np.asarray(each[name], dtype=np.float64) for name in real]) for each in (real, made))
    x, y = x - x.mean(), y - y.mean()
    return Line(float(x @ y / (x @ x)) if x.any() else float("nan"), pearson(x, y))


def memorisation(made_nk: ArrayLike, held_out_nk: ArrayLike, train_nk: ArrayLike) -> float:
    """Return how near made cells lie to training cells, beside how near other real cells do: median over median.

    median over made cells of the distance to the nearest training cell, over the same of held-out real cells. About one
    for cells that are as new as real ones; towards zero for copies; above one for cells that lie apart from real ones.

    Parameters
    ----------
    made_nk, held_out_nk, train_nk
        Cells in the same space, such as principal components.

    References
    ----------
    Meehan, Chaudhuri and Dasgupta, AISTATS (2020), "A non-parametric test to detect data-copying".
    """
    real = float(np.median(nearest_distances(held_out_nk, train_nk)))
    return float(np.median(nearest_distances(made_nk, train_nk))) / real if real > 0 else float("nan")
