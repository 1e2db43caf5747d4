"""What scvi-tools and scanpy call the options of fit."""

from __future__ import annotations

from genevae.errors import RecipeError

__all__ = ["PEERS", "peer_option"]

PEERS = {
    "batch_key": "batch",
    "labels_key": "condition",
    "categorical_covariate_keys": "condition",
    "continuous_covariate_keys": "continuous",
    "max_epochs": "epochs",
    "train_size": "validation",
    "n_hidden": "hidden",
    "n_layers": "hidden",
    "lr": "learning_rate",
    "dropout_rate": "setting dropout",
    "gene_likelihood": "recipe",
    "n_top_genes": "genes",
    "use_gpu": "device",
    "accelerator": "device",
    "early_stopping_patience": "setting patience",
    "limit_train_batches": "setting cells_per_epoch",
}
"""Their name of an option, and the name here."""


def peer_option(name: str) -> RecipeError | None:
    """Return the error that answers an option of another package with the option here, if it is one.

    >>> print(peer_option("batch_key"))
    There is no option 'batch_key'; here it is: batch.
    """
    name = name.replace("-", "_")
    return RecipeError(f"There is no option '{name}'; here it is: {PEERS[name]}.") if name in PEERS else None
