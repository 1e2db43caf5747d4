"""What depends on the final weights: posteriors of reference cells, and the calibration of each field."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from genevae.cells import Condition
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.models.classifier import MAX_CELLS, Calibration, bounds_nc, fit_temperature
from genevae.models.reference import Limits, Reference
from genevae.models.vae import VAE
from genevae.training.progress import progress_bar

__all__ = ["calibrate", "reference_posteriors"]

MAX_EVALUATIONS = 20_000
"""Cells × categories to calibrate one field: fewer cells are scored if there are more categories."""
LEAST_CELLS = 20
"""Cells to calibrate one field, however many categories it has."""


@torch.no_grad()
def reference_posteriors(model: VAE, cells: Loader, device: torch.device) -> Reference:
    """Return the posterior and the condition of each of these cells, and the largest counts that they have."""
    model.eval()
    means, scales, conditions = [], [], []
    highest_g = torch.zeros(len(cells.schema.genes))
    sizes = []
    for minibatch in cells:
        highest_g = torch.maximum(highest_g, minibatch.x.dense().amax(0))
        sizes.append(minibatch.condition.size_n1)
        on_device = minibatch.to(device)
        q = model.posterior(on_device)
        means.append(q.mean.cpu())
        scales.append(q.scale.cpu())
        conditions.append(on_device.given(model.sized(on_device).with_measured(None)).to("cpu").condition)
    counts = cells.schema.has_noise_model and cells.schema.output_kind.is_count
    limits = Limits(highest_g, torch.stack(torch.cat(sizes).aminmax())) if counts else None
    return Reference(torch.cat(means), torch.cat(scales), Condition.join(conditions), limits)


def calibrate(
    model: VAE, training: Loader, validation: Loader, device: torch.device, progress: bool = False
) -> dict[str, Calibration]:
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
    progress
        Whether to show a bar.
    """
    model.eval()
    counts = {
        name: torch.bincount(training.codes(name), minlength=n)[:n].double()
        for name, n in training.schema.n_categories.items()
    }
    seen = {name: count_c.nonzero().squeeze(-1) for name, count_c in counts.items() if (count_c > 0).sum() > 1}
    cells = {name: _cells_to_score(validation, name, seen_c) for name, seen_c in seen.items()}
    n_evaluations = sum(cells[name].sampler.n_cells * len(seen_c) for name, seen_c in seen.items())
    with progress_bar("calibrating", n_evaluations, progress) as advance:
        return {
            name: _calibrate_field(model, name, counts[name][seen_c], seen_c, cells[name], device, advance)
            for name, seen_c in seen.items()
        }


def _cells_to_score(validation: Loader, name: str, seen: torch.Tensor) -> Loader:
    """Return the validation cells, or the first of them, which are in random order, if there are many categories."""
    n_cells = max(LEAST_CELLS, MAX_EVALUATIONS // len(seen))
    if validation.sampler.n_cells <= n_cells:
        return validation
    is_predicted = torch.isin(validation.codes(name), seen).numpy()
    batch_size = max(1, min(512, MAX_CELLS // len(seen)))
    return validation.over(InOrder(validation.sampler.rows[is_predicted][:n_cells], batch_size))


def _calibrate_field(
    model: VAE,
    name: str,
    count_c: torch.Tensor,
    seen: torch.Tensor,
    validation: Loader,
    device: torch.device,
    advance: Callable[[int], None],
) -> Calibration:
    share_c = (count_c + 0.5) / (count_c + 0.5).sum()
    log_prior_c, code_c = tuple(share_c.log().tolist()), tuple(seen.tolist())
    scores, codes = [], []
    generator = torch.Generator().manual_seed(0)
    for minibatch in validation:
        true_nc = minibatch.condition.codes[name].unsqueeze(-1) == seen
        is_predicted = true_nc.any(-1)
        scores.append(bounds_nc(model, minibatch.to(device), name, code_c, generator).cpu()[is_predicted])
        codes.append(true_nc[is_predicted].long().argmax(-1))
        advance(true_nc.numel())
    n_known = sum(map(len, codes))
    temperature = fit_temperature(torch.cat(scores), torch.cat(codes), log_prior_c) if n_known else 1.0
    return Calibration(temperature if math.isfinite(temperature) else 1.0, log_prior_c, code_c)
