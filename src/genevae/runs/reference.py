"""What depends on the final weights: posteriors of reference cells, and the calibration of each field."""

from __future__ import annotations

import math

import torch

from genevae.cells import Condition
from genevae.data.loader import Loader
from genevae.models.classifier import Calibration, bounds_nc, fit_temperature
from genevae.models.reference import Reference
from genevae.models.vae import VAE

__all__ = ["calibrate", "reference_posteriors"]

MAX_EVALUATIONS = 100_000
"""Cells × categories at most, to calibrate one field."""


@torch.no_grad()
def reference_posteriors(model: VAE, cells: Loader, device: torch.device) -> Reference:
    """Return the posterior and the condition of each of these cells."""
    model.eval()
    means, scales, conditions = [], [], []
    for minibatch in cells:
        on_device = minibatch.to(device)
        q = model.posterior(on_device)
        means.append(q.mean.cpu())
        scales.append(q.scale.cpu())
        conditions.append(on_device.given(model.sized(on_device).with_measured(None)).to("cpu").condition)
    return Reference(torch.cat(means), torch.cat(scales), Condition.join(conditions))


def calibrate(model: VAE, training: Loader, validation: Loader, device: torch.device) -> dict[str, Calibration]:
    """Fit a temperature for the predicted probabilities of every categorical field.

    Only categories of training cells are predicted, not combinations without cells, nor categories held out.

    Parameters
    ----------
    model
        The model with its final weights.
    training
        The training cells, for the share of each category.
    validation
        Validation cells; those whose category is predicted count. Without any, the temperature is one.
    device
        Where the model is.
    """
    model.eval()
    counts = {
        name: torch.bincount(training.codes(name), minlength=n)[:n].double()
        for name, n in training.schema.n_categories.items()
    }
    return {
        name: _calibrate_field(model, name, count_c, validation, device)
        for name, count_c in counts.items()
        if (count_c > 0).sum() > 1
    }


def _calibrate_field(
    model: VAE, name: str, count_c: torch.Tensor, validation: Loader, device: torch.device
) -> Calibration:
    seen = count_c.nonzero().squeeze(-1)
    share_c = (count_c[seen] + 0.5) / (count_c[seen] + 0.5).sum()
    log_prior_c, code_c = tuple(share_c.log().tolist()), tuple(seen.tolist())
    scores, codes, n_scored = [], [], 0
    generator = torch.Generator().manual_seed(0)
    for minibatch in validation:
        true_nc = minibatch.condition.codes[name].unsqueeze(-1) == seen
        is_predicted = true_nc.any(-1)
        scores.append(bounds_nc(model, minibatch.to(device), name, code_c, generator).cpu()[is_predicted])
        codes.append(true_nc[is_predicted].long().argmax(-1))
        n_scored += true_nc.numel()
        if n_scored > MAX_EVALUATIONS:
            break
    n_known = sum(map(len, codes))
    temperature = fit_temperature(torch.cat(scores), torch.cat(codes), log_prior_c) if n_known else 1.0
    return Calibration(temperature if math.isfinite(temperature) else 1.0, log_prior_c, code_c)
