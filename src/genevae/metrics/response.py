"""How well a change of expression was predicted.

A *profile* is one number per gene for some cells, a *shift* the difference of two profiles, here always that of a
perturbed state less its reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from genevae.metrics.metric import Metric

__all__ = [
    "CENTRED_SHIFT_PEARSON", "DIRECTION_AGREEMENT", "GENE_MEANS_PEARSON", "LOG_SIZE", "PROFILE_R2",
    "PROFILE_SQUARED_PEARSON", "SHIFT_COSINE", "SHIFT_COVERAGE", "SHIFT_MAE", "SHIFT_MSE", "SHIFT_PEARSON", "Shift",
    "cosine",
    "direction_agreement", "log_normalised", "mean_absolute_error", "mean_squared_error", "pearson", "pearson_delta",
    "profile", "r2_score", "squared_pearson",
]  # fmt: skip

GENE_MEANS_PEARSON = Metric(
    "Pearson of gene means", "higher", 1,
    "Correlation over genes of the mean expression of a category, expected and measured.",
)  # fmt: skip
SHIFT_PEARSON = Metric(
    "Pearson of the shift", "higher", 1,
    "Correlation over genes of the predicted and the true change from control; the mean expression cancels out.",
    "Roohani, Huang and Leskovec, Nature Biotechnology 42:927 (2024)",
)  # fmt: skip
CENTRED_SHIFT_PEARSON = Metric(
    "Pearson of the shift from the mean perturbation", "higher", 1,
    "The same, where changes are from the mean of all perturbations: what is specific to this one.",
    "Viñas Torné et al., Nature Biotechnology (2025)",
)  # fmt: skip
SHIFT_MSE = Metric("mean squared error of the shift", "lower", 0, "Of the predicted change, over genes.")
SHIFT_MAE = Metric("mean absolute error of the shift", "lower", 0, "Of the predicted change, over genes.")
SHIFT_COSINE = Metric(
    "cosine of the shift", "higher", 1, "Cosine of the angle between the predicted and the true change."
)
PROFILE_SQUARED_PEARSON = Metric(
    "squared Pearson of the profile (R² of scGen)", "higher", 1,
    "Of whole profiles, as scGen reports it; near 1 for any profile, since genes differ more than conditions do.",
    "Lotfollahi, Wolf and Theis, Nature Methods 16:715 (2019)",
)  # fmt: skip
PROFILE_R2 = Metric(
    "R² of the profile", "higher", 1,
    "Share of the variance of the true profile over genes that the predicted one explains.",
)  # fmt: skip
SHIFT_COVERAGE = Metric(
    "coverage of 90 % intervals of the shift", "closer", 0.9,
    "Share of the genes whose true shift is within the interval that was predicted for it.",
)  # fmt: skip
DIRECTION_AGREEMENT = Metric(
    "agreement of direction", "higher", 1,
    "Share of the genes that truly change whose change has the predicted sign.",
)  # fmt: skip


Shift = NDArray[np.float64]
"""A change of every gene's profile, on the log scale."""


LOG_SIZE = 1e4
"""The size that cells are scaled to before logarithms are taken."""


def log_normalised(x_ng: Any, target: float = LOG_SIZE, *, dtype: Any = np.float64, keep_sparse: bool = False) -> Any:
    """Return log(1 + target · x / Σ_g x) of every cell; an empty cell has zeros.

    Parameters
    ----------
    x_ng
        Counts, dense or sparse; cells × genes.
    target
        The size that every cell is scaled to.
    dtype
        The precision of all steps.
    keep_sparse
        Whether sparse counts stay sparse; they become dense by default.
    """
    weight_n = _weights(x_ng, target).astype(dtype)
    if sparse.issparse(x_ng) and keep_sparse:
        return sparse.csr_matrix(x_ng).astype(dtype).multiply(weight_n[:, None]).tocsr().log1p()
    dense: Any = x_ng.toarray() if sparse.issparse(x_ng) else np.asarray(x_ng)
    return np.log1p(weight_n[:, None] * dense.astype(dtype, copy=False))


def profile(counts_ng: Any, target: float = LOG_SIZE) -> NDArray[np.float64]:
    """Return log(1 + mean over cells of counts · target / size), per gene: the profile of a sum of cells.

    It serves expected counts as well as counts, since the mean is taken first.

    Parameters
    ----------
    counts_ng
        Counts or expected counts, dense or sparse; cells × genes.
    target
        The size that every cell is scaled to.
    """
    weight_n = _weights(counts_ng, target)
    return np.log1p(np.asarray(weight_n @ counts_ng, dtype=np.float64).ravel() / len(weight_n))


def _weights(counts_ng: Any, target: float) -> NDArray[np.float64]:
    size_n = np.asarray(counts_ng.sum(1), dtype=np.float64).ravel()
    return np.divide(target, size_n, out=np.zeros_like(size_n), where=size_n > 0)


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation; zero where either side does not vary, since it then says nothing.

    >>> pearson([1, 2, 3], [2, 4, 6.0])
    1.0
    >>> pearson([1, 2, 3], [0, 0, 0])
    0.0
    """
    x: Any = np.asarray(a, dtype=np.float64) - np.mean(np.asarray(a, dtype=np.float64))
    y: Any = np.asarray(b, dtype=np.float64) - np.mean(np.asarray(b, dtype=np.float64))
    norm = np.sqrt((x @ x) * (y @ y))
    return 0.0 if norm == 0 else float(x @ y / norm)  # what is not a number stays so


def pearson_delta(predicted_g: ArrayLike, true_g: ArrayLike, reference_g: ArrayLike) -> float:
    """Pearson's correlation over genes of (predicted − reference) and (true − reference).

    With the control as reference this is the usual Pearson-Δ. With the mean of all perturbations as reference it does
    not reward what every perturbation has in common.

    Parameters
    ----------
    predicted_g, true_g, reference_g
        Profiles.

    References
    ----------
    Roohani, Huang and Leskovec, Nature Biotechnology 42:927 (2024); for the mean of perturbations as reference Viñas
    Torné et al., Nature Biotechnology (2025), "Systema".
    """
    reference: Any = np.asarray(reference_g, dtype=np.float64)
    return pearson(np.asarray(predicted_g) - reference, np.asarray(true_g) - reference)


def squared_pearson(predicted_g: ArrayLike, true_g: ArrayLike) -> float:
    """Pearson's correlation of two profiles, squared: the "R²" of scGen and of those that followed it.

    It is near one for any two profiles of like cells, changed or not, and blind to scale and offset.

    References
    ----------
    Lotfollahi, Wolf and Theis, Nature Methods 16:715 (2019).
    """
    return pearson(predicted_g, true_g) ** 2


def r2_score(predicted_g: ArrayLike, true_g: ArrayLike) -> float:
    """Share of the variance over genes that is explained: 1 − Σ(true − predicted)² / Σ(true − mean of true)².

    NaN where the true values do not vary. As scikit-learn's, of which the arguments come the other way round.
    """
    true: Any = np.asarray(true_g, dtype=np.float64)
    total = float(np.sum((true - true.mean()) ** 2))
    return 1 - float(np.sum((true - np.asarray(predicted_g)) ** 2)) / total if total > 0 else float("nan")


def mean_squared_error(predicted_g: ArrayLike, true_g: ArrayLike) -> float:
    """Mean over genes of (predicted − true)²; the same for two profiles and for their shifts from one reference."""
    return float(np.mean((np.asarray(predicted_g, dtype=np.float64) - np.asarray(true_g)) ** 2))


def mean_absolute_error(predicted_g: ArrayLike, true_g: ArrayLike) -> float:
    """Mean over genes of |predicted − true|; the same for two profiles and for their shifts from one reference."""
    return float(np.mean(np.abs(np.asarray(predicted_g, dtype=np.float64) - np.asarray(true_g))))


def cosine(predicted_g: ArrayLike, true_g: ArrayLike) -> float:
    """Cosine of the angle between two shifts, a·b / (|a| |b|); zero where either is zero, since it has no direction.

    >>> cosine([1, 0], [3, 4])
    0.6
    """
    a: Any = np.asarray(predicted_g, dtype=np.float64)
    b: Any = np.asarray(true_g, dtype=np.float64)
    norm = np.sqrt((a @ a) * (b @ b))
    return 0.0 if norm == 0 else float(a @ b / norm)


def direction_agreement(predicted_g: ArrayLike, true_g: ArrayLike, genes: Sequence[int] | NDArray[Any]) -> float:
    """Share of some genes whose predicted shift has the sign of the true one; no shift agrees with none but itself.

    Parameters
    ----------
    predicted_g, true_g
        Shifts.
    genes
        Places of the genes that count, such as those that truly respond: the sign of the others is noise.
    """
    chosen = np.asarray(genes, dtype=np.int64)
    return float(np.mean(np.sign(np.asarray(predicted_g)[chosen]) == np.sign(np.asarray(true_g)[chosen])))
