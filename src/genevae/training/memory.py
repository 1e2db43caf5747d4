"""What is learned once the weights are fixed: the reference cells, and the temperature of each field."""

from __future__ import annotations

import math

import torch

from genevae.cells import Cells, Condition
from genevae.data.loader import Loader
from genevae.models.classifier import Calibration, bounds_nc, fit_temperature
from genevae.models.reference import Reference
from genevae.models.vae import VAE

__all__ = ["calibrate", "remember"]

MAX_EVALUATIONS = 100_000
"""Cells × categories that are scored at most to calibrate one field."""


@torch.no_grad()
def remember(model: VAE, cells: Loader, device: torch.device) -> Reference:
    """Keep the posterior and the condition of each of these cells."""
    model.eval()
    means, scales, conditions = [], [], []
    for minibatch in cells:
        moved = minibatch.to(device)
        q = model.posterior(moved)
        means.append(q.mean.cpu())
        scales.append(q.scale.cpu())
        conditions.append(moved.given(model.sized(moved).with_measured(None)).to("cpu").condition)
    return Reference(torch.cat(means), torch.cat(scales), Condition.join(conditions))


def calibrate(model: VAE, training: Loader, validation: Loader, device: torch.device) -> dict[str, Calibration]:
    """Fit, for every categorical field, the temperature with which its categories are told apart.

    Parameters
    ----------
    model
        With its final weights.
    training
        Gives the share of each category.
    validation
        Cells that were not trained on; without any, every temperature is one.
    device
        Where.
    """
    model.eval()
    return {
        name: _calibrate_field(model, name, n, training, validation, device)
        for name, n in training.schema.n_categories.items()
        if n > 1
    }


def _calibrate_field(
    model: VAE, name: str, n_categories: int, training: Loader, validation: Loader, device: torch.device
) -> Calibration:
    counts = torch.bincount(training.codes(name), minlength=n_categories).double() + 0.5
    log_prior_c = tuple((counts / counts.sum()).log().tolist())
    scores, codes, n_scored = [], [], 0
    generator = torch.Generator().manual_seed(0)
    for minibatch in validation:
        scores.append(_scores(model, minibatch, name, n_categories, generator, device))
        codes.append(minibatch.condition.codes[name])
        n_scored += minibatch.n_cells * n_categories
        if n_scored > MAX_EVALUATIONS:
            break
    temperature = fit_temperature(torch.cat(scores), torch.cat(codes), log_prior_c) if scores else 1.0
    return Calibration(temperature if math.isfinite(temperature) else 1.0, log_prior_c)


def _scores(
    model: VAE, cells: Cells, name: str, n_categories: int, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    return bounds_nc(model, cells.to(device), name, n_categories, generator).cpu()
