"""The settings of the suite: those of our recipes, and the length of training."""

from __future__ import annotations

from typing import Any

__all__ = [
    "FEWEST_EPOCHS", "MAX_CELLS", "MAX_GENES", "MOST_EPOCHS", "OURS", "SEEDS", "SEEDS_OF_OTHERS", "TRIED", "VISITS",
    "epochs_for", "length_of_ours",
]  # fmt: skip

SEEDS, SEEDS_OF_OTHERS = 5, 1
"""Of the first method of a question, one of our recipes, and of its other methods."""
MAX_GENES = 2000
MAX_CELLS = 5_700
"""Of one data set, so that 4,000 are for training; larger data sets are subsampled."""

SAME_OPTIMISER = {"learning_rate": 1e-3, "learning_rate_decay": 0.0, "batch_size": 128}
"""As in scvi-tools: Adam at a constant rate."""

OURS: dict[str, dict[str, dict[str, Any]]] = {
    "fit": {
        name: {**SAME_OPTIMISER, "beta_ramp": 0.5, "patience": 0, "plateau": 0} for name in ("nb", "zinb", "poisson")
    },
    "integration": {"nb": {}, "adversarial": {}},
    "types": {"nb": {}, "cycle": {}},
    "donors": {"nb": {}},
    "pairs": {"nb": {}},
    "doses": {"dose": {}},
    "knock-outs": {"nb": {}},
    "effects": {"nb": {}},
    "simulation": {"nb": {}, "convolutional-nb": {}, "convolutional": {}},
    "labels": {"nb": {}},
    "studies": {"nb": {}},
    "unseen": {"nb": {}},
    "bulk": {"bulk": {"components": True, "n_latent": 50}},
}
"""Settings of our recipes other than their defaults, by question and method. Jobs run again if they change."""

TRIED: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "bulk": {
        "the defaults, without components": ("bulk", {}),
        "supervised contrast": ("contrastive", {"components": True, "n_latent": 50, "temperature": 0.3}),
        "no genes masked": ("bulk", {"components": True, "n_latent": 50, "mask_low": 0.0, "mask_high": 0.0}),
    },
}
"""Variants tried where a target was missed: by question and name, a recipe and its settings."""

VISITS = {
    "fit": 120_000,
    "integration": 120_000,
    "types": 180_000,
    "donors": 180_000,
    "pairs": 180_000,
    "doses": 4_000,
    "knock-outs": 120_000,
    "effects": 20_000,
    "simulation": 50_000,
    "labels": 150_000,
    "studies": 100_000,
    "unseen": 100_000,
    "bulk": 100_000,
}
"""Cells visited in one training of another method, over all epochs: epochs = visits / training cells, within bounds."""
FEWEST_EPOCHS, MOST_EPOCHS = 20, 200
QUICK_EPOCHS = 2


def epochs_for(question: str, n_train: int, quick: bool = False) -> int:
    """Return the epochs of other methods.

    >>> epochs_for("fit", 1200), epochs_for("fit", 10), epochs_for("fit", 1200, quick=True)
    (100, 200, 2)
    """
    if quick:
        return QUICK_EPOCHS
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(VISITS[question] / n_train)))


def length_of_ours(question: str, n_train: int, quick: bool = False) -> dict[str, int]:
    """Return the epochs of our recipes as a setting: none, for their default; equal to others' where fits are compared.

    >>> length_of_ours("fit", 1200), length_of_ours("types", 1200), length_of_ours("types", 1200, quick=True)
    ({'epochs': 100}, {}, {'epochs': 2})
    """
    return {"epochs": epochs_for(question, n_train, quick)} if quick or question == "fit" else {}
