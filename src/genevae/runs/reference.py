"""What is learned once the weights are fixed: the reference cells, and the temperature of each field."""

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
"""Cells × categories that are scored at most to calibrate one field."""


@torch.no_grad()
def reference_posteriors(model: VAE, cells: Loader, device: torch.device) -> Reference:
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

    Only categories that training cells had can be told: no combination that was merely foreseen, and none held out.

    Parameters
    ----------
    model
        With its final weights.
    training
        Gives the share of each category.
    validation
        Cells that were not trained on, of which those count whose category can be told; without any, the temperature
        is one.
    device
        Where.
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
        can_be_told = true_nc.any(-1)
        scores.append(bounds_nc(model, minibatch.to(device), name, code_c, generator).cpu()[can_be_told])
        codes.append(true_nc[can_be_told].long().argmax(-1))
        n_scored += true_nc.numel()
        if n_scored > MAX_EVALUATIONS:
            break
    n_known = sum(map(len, codes))
    temperature = fit_temperature(torch.cat(scores), torch.cat(codes), log_prior_c) if n_known else 1.0
    return Calibration(temperature if math.isfinite(temperature) else 1.0, log_prior_c, code_c)
