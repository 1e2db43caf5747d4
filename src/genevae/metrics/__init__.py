"""Arrays in, numbers out: scores and baselines, as ``genevae.metrics.accuracy`` and so on.

A :class:`~genevae.metrics.metric.Metric` says what each score of the report means.
"""

from __future__ import annotations

import importlib
from typing import Any

_FUNCTIONS = {
    "agreement": ("r2_g", "variance_error", "zero_fraction_error"),
    "bootstrap": ("interval", "paired"),
    "bound": ("importance_weighted_bound",),
    "calibration": ("covered", "crps", "pit"),
    "ceiling": ("split_half_ceiling",),
    "denoising": ("normalised_error", "poisson_deviance", "thin"),
    "distances": ("e_distance", "mmd"),
    "gene_sets": ("co_membership",),
    "integration": ("bras", "graph_connectivity", "integration_scores"),
    "labels": ("accuracy", "auroc", "confusion", "expected_calibration_error", "macro_f1", "majority_accuracy"),
    "latent": ("calinski_harabasz", "latent_scores", "silhouette_n"),
    "leakage": ("local_mixing", "readable"),
    "neighbourhoods": ("lisi_n", "nearest_cells"),
    "ranking": ("discrimination", "top_genes", "top_overlap"),
    "response": (
        "cosine", "direction_agreement", "log_normalised", "mean_absolute_error", "mean_squared_error", "pearson",
        "pearson_delta", "profile", "r2_score", "squared_pearson",
    ),
    "simulation": ("fold_changes", "ks_distance", "two_sample_auc"),
}  # fmt: skip
"""The functions of each module, but for those that are called like their module: kbet.kbet and bound.bound."""
_HOMES = {name: module for module, names in _FUNCTIONS.items() for name in names}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list of names, made from the one above


def __getattr__(name: str) -> Any:
    """Import a function, or a module, when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"genevae.metrics.{_HOMES[name]}"), name)
    if name in _FUNCTIONS:
        return importlib.import_module(f"genevae.metrics.{name}")
    from genevae.errors import nearest
    from genevae.peer_functions import composed

    if (function := composed(name, "metrics")) is not None:
        return function
    hint = "" if name.startswith("_") else f" {nearest(name, __all__, len(__all__))}"
    raise AttributeError(f"module 'genevae.metrics' has no attribute '{name}'.{hint}")


def __dir__() -> list[str]:
    return __all__
