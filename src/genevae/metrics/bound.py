"""How probable a model finds cells: bounds on log p(x) from weighted draws of the latent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.metric import Metric

__all__ = ["BOUND", "IMPORTANCE_WEIGHTED_BOUND", "RECONSTRUCTION", "bound", "importance_weighted_bound"]

RECONSTRUCTION = Metric(
    "log-likelihood of the reconstruction, nats per cell", "higher", None,
    "How probable a cell is under the distribution that the model gives it after seeing it. It flatters: the cost of "
    "the latent is not subtracted.",
)  # fmt: skip
BOUND = Metric(
    "bound, nats per cell", "higher", None,
    "A lower bound on the log-probability of a cell (ELBO); the cost of the latent is subtracted.",
    "Kingma and Welling, ICLR (2014)",
)  # fmt: skip
IMPORTANCE_WEIGHTED_BOUND = Metric(
    "importance-weighted bound, nats per cell", "higher", None,
    "The same bound with many draws of the latent, which bring it nearer to the log-probability.",
    "Burda, Grosse and Salakhutdinov, ICLR (2016)",
)  # fmt: skip


def bound(log_weight_sn: ArrayLike) -> NDArray[np.float64]:
    """Return the evidence lower bound of each cell, in nats: the mean over draws of log w.

    w = p(x | z) p(z) / q(z | x), z drawn from q.

    Parameters
    ----------
    log_weight_sn
        log w of each draw and cell.

    References
    ----------
    Kingma and Welling, ICLR (2014).
    """
    return np.asarray(np.mean(np.asarray(log_weight_sn, dtype=np.float64), axis=0))


def importance_weighted_bound(log_weight_sn: ArrayLike, n_draws: int | None = None) -> NDArray[np.float64]:
    """Return the importance-weighted bound of each cell, in nats: log of the mean over K draws of w.

    In expectation it rises with K, from the bound at K = 1 to log p(x). Where there are more draws than K, it is the
    mean over as many groups of K as they make.

    Parameters
    ----------
    log_weight_sn
        log w of each draw and cell, as for :func:`bound`.
    n_draws
        K; all of them by default.

    References
    ----------
    Burda, Grosse and Salakhutdinov, ICLR (2016).

    Examples
    --------
    >>> importance_weighted_bound([[0.0, 1.0], [0.0, 1.0]])
    array([0., 1.])
    """
    log_weight: Any = np.asarray(log_weight_sn, dtype=np.float64)
    k = len(log_weight) if n_draws is None else n_draws
    n_groups = len(log_weight) // k
    grouped = log_weight[: n_groups * k].reshape(n_groups, k, -1)
    highest = grouped.max(1, keepdims=True)  # so that no exponential overflows
    log_mean = np.log(np.exp(grouped - highest).mean(1)) + highest[:, 0]
    return np.asarray(log_mean.mean(0))
