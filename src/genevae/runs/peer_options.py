"""What scvi-tools, scanpy and earlier versions call the options of fit."""

from __future__ import annotations

from genevae.errors import RecipeError

__all__ = ["PEERS", "peer_option"]

_WIDTHS = "the width of each layer, as in 512,256"
PEERS = {
    "batch_key": ("batch", ""),
    "labels_key": ("condition", ""),
    "categorical_covariate_keys": ("condition", ""),
    "continuous_covariate_keys": ("continuous", ""),
    "max_epochs": ("epochs", ""),
    "train_size": ("validation", "the share of the cells that is not trained on"),
    "n_hidden": ("hidden", _WIDTHS),
    "n_layers": ("hidden", _WIDTHS),
    "lr": ("learning_rate", ""),
    "dropout_rate": ("setting", "dropout"),
    "gene_likelihood": ("recipe", ""),
    "n_top_genes": ("genes", ""),
    "use_gpu": ("device", ""),
    "accelerator": ("device", ""),
    "early_stopping_patience": ("setting", "patience"),
    "limit_train_batches": ("setting", "cells_per_epoch"),
    "logs": ("callbacks", ""),
}
"""For each of their options, the option here, and a remark, or the name of the setting."""


def peer_option(name: str) -> RecipeError | None:
    r"""Return the error that answers an option of another package with the option here, if it is one.

    The answer is in the words of the command line where the name begins with ``--``.

    >>> print(peer_option("batch_key"), peer_option("--dropout-rate"), sep="\n")
    There is no option 'batch_key'; here it is: batch.
    There is no option '--dropout-rate'; here it is: --setting dropout=VALUE.
    """
    plain = name.removeprefix("--").replace("-", "_")
    if plain not in PEERS:
        return None
    option, remark = PEERS[plain]
    typed = name.startswith("--")
    if option == "setting":
        answer = f"--setting {remark}=VALUE" if typed else f'setting={{"{remark}": VALUE}}'
    else:
        answer = f"--{option.replace('_', '-')}" if typed else option
        answer += f", {remark}" if remark else ""
    return RecipeError(f"There is no option '{name}'; here it is: {answer}.")
