"""Batch-norm statistics of the current weights, where training has too few steps for running averages."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn

from genevae.cells import Cells
from genevae.models.projection import project_pairs
from genevae.models.vae import VAE
from genevae.training.autocast import drawing_nothing

__all__ = ["MEMORY", "reestimate_norm"]

MEMORY = 100
"""Steps that running averages are taken over: in fewer, they are still those of earlier weights, or of none."""
MOST = 32
"""Minibatches that statistics are estimated from."""


@torch.no_grad()
def reestimate_norm(model: VAE, minibatches: Iterable[Cells], device: torch.device, seed: int = 0) -> None:
    """Set the mean and variance of every batch norm to averages over some minibatches, as evaluation sees them.

    Evaluation has no dropout and masks nothing, and running averages in training have seen both. Weights, the
    random numbers of training and the layers' own averaging stay as they are. The model ends in evaluation mode.

    Parameters
    ----------
    model
        The model; batch norms whose weights are not trained are left alone.
    minibatches
        Training cells, of which at most 32 minibatches are used.
    device
        Where the model is.
    seed
        Of the draws from the posterior.

    References
    ----------
    Wu and Johnson, Rethinking "Batch" in BatchNorm, arXiv:2105.07576 (2021).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d) and module.weight.requires_grad]
    if not norms:
        return
    model.eval()
    before = [(norm.momentum, int(norm.num_batches_tracked or 0)) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
        norm.train()
    with drawing_nothing(device):
        torch.manual_seed(seed)
        for cells in islice(minibatches, MOST):
            on_device = cells.to(device)
            terms = model.terms(on_device)
            if model.projection is not None:
                project_pairs(model.projection, terms.z_snk[0], on_device.shard)
    for norm, (momentum, tracked) in zip(norms, before, strict=True):
        norm.momentum = momentum
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.fill_(tracked)
        norm.eval()
