"""The null test: how many genes change between cells whose labels are drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from genevae.metrics.metric import Metric
from genevae.report.records import Score
from genevae.responses.answer import Request, Responses
from genevae.responses.profiles import Profiles

__all__ = ["NULL_CALLS", "null_calls", "null_scores"]

NULL_CALLS = Metric(
    "genes called with random labels, at 5 %", "lower", 0,
    "Share of the genes whose 95 % interval of the effect has no zero (or with p < 0.05), where control cells are "
    "divided at random.",
)  # fmt: skip
LEVEL = 0.95
N_SPLITS = 5
LEAST_CELLS = 40

Numbers = NDArray[Any]


def null_scores(control_ng: Numbers, seed: int) -> Iterator[Score]:
    """Yield the share of genes called by the effect of this package and by Welch's t-test.

    Parameters
    ----------
    control_ng
        Control cells of one context, on a log scale.
    seed
        Of the random labels.
    """
    if len(control_ng) < LEAST_CELLS:
        return
    rng = np.random.default_rng(seed)
    labels = [rng.permutation(len(control_ng)) < len(control_ng) // 2 for _ in range(N_SPLITS)]
    ours = np.mean([null_calls(control_ng[one], control_ng[~one]) for one in labels])
    tested = np.mean([_t_calls(control_ng[one], control_ng[~one]) for one in labels])
    yield Score.of_metric(NULL_CALLS, "effect", float(ours), "run", "control cells")
    yield Score.of_metric(NULL_CALLS, "t-test", float(tested), "baseline", "control cells")


def null_calls(before_ng: Numbers, after_ng: Numbers, interval: float = LEVEL) -> float:
    """Return the share of genes whose interval of the effect has no zero, as `effect` computes it.

    Parameters
    ----------
    before_ng, after_ng
        Cells of either label, on a log scale.
    interval
        Of the effect.
    """
    both = [np.asarray(x, dtype=np.float64) for x in (before_ng, after_ng)]
    profiles = Profiles(
        ("label",), (("a",), ("b",)), np.array([len(x) for x in both]), np.stack([x.mean(0) for x in both]),
        np.stack([x.var(0) for x in both]), np.zeros((2, 1)),
    )  # fmt: skip
    noise_g = both[0].var(0) / max(len(both[0]) - 1, 1)
    request = Request(("label",), "", "a", "b", both[0].mean(0), noise_g, len(both[0]))
    answer = Responses(profiles, {"label": "a"}).answer(request, interval)
    return float(np.mean(np.abs(answer.shift_g) > answer.half_width_g))


def _t_calls(before_ng: Numbers, after_ng: Numbers) -> float:
    varies = np.ptp(np.concatenate([before_ng, after_ng]), axis=0) > 0
    p_g = np.ones(before_ng.shape[1])
    if varies.any():
        p_g[varies] = ttest_ind(before_ng[:, varies], after_ng[:, varies], equal_var=False).pvalue
    return float(np.mean(np.nan_to_num(p_g, nan=1.0) < 1 - LEVEL))
