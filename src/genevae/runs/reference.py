"""What depends on the final weights: posteriors of reference cells, and the calibration of each field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.models.classifier import MAX_CELLS, Calibration, bounds_nc, fit_temperature
from genevae.models.clusters import Clusters, cluster
from genevae.models.correction import Correction
from genevae.models.marginals import Marginals
from genevae.models.reference import Hurdle, Limits, Reference
from genevae.models.vae import VAE
from genevae.training.progress import progress_bar

__all__ = ["Scored", "calibrate", "correction_of", "reference_posteriors"]

MAX_SAMPLES = 40_000_000
"""Cells × genes at most that are sampled for the share of zeros, and that clusters are made of."""
SMALLEST = 1e-4
"""Values below are zeros, which standardising and back makes inexact."""
MAX_EVALUATIONS = 20_000
"""Cells × categories to calibrate one field: fewer cells are scored if there are more categories."""
LEAST_CELLS = 20
"""Cells to calibrate one field, however many categories it has."""


@torch.no_grad()
def reference_posteriors(model: VAE, cells: Loader, device: torch.device) -> Reference:
    """Return the posterior and the condition of each of these cells, and what samples like them need."""
    model.eval()
    means, scales, conditions = [], [], []
    highest_g = torch.zeros(len(cells.schema.genes))
    sizes = []
    step = -(-cells.sampler.n_cells * len(cells.schema.genes) // MAX_SAMPLES) or 1
    values, measured, n_seen = [], [], 0
    for minibatch in cells:
        some = slice(-n_seen % step, None, step)
        values.append(csr_array(_returned(cells.schema, minibatch)[some].numpy()))
        if minibatch.condition.measured_ng is not None:
            measured.append(minibatch.condition.measured_ng[some].numpy())
        n_seen += minibatch.n_cells
        highest_g = torch.maximum(highest_g, minibatch.x.dense().amax(0))
        sizes.append(minibatch.condition.size_n1)
        on_device = minibatch.to(device)
        q = model.posterior(on_device)
        means.append(q.mean.cpu())
        scales.append(q.scale.cpu())
        conditions.append(on_device.given(model.sized(on_device).with_measured(None)).to("cpu").condition)
    counts = cells.schema.has_noise_model and cells.schema.output_kind.is_count
    limits = Limits(highest_g, torch.stack(torch.cat(sizes).aminmax())) if counts else None
    reference = Reference(torch.cat(means), torch.cat(scales), Condition.join(conditions), limits=limits)
    known_mg = np.concatenate(measured) if measured else None
    reference = replace(reference, clusters=_clusters(reference, step, vstack(values, format="csr"), known_mg))
    if cells.schema.output_kind is not Kind.LOG:
        return reference
    share_g, mean_g = _zeros(cells)
    return replace(reference, hurdle=Hurdle.fit(_samples(model, cells.schema, reference, device), share_g, mean_g))


def _returned(schema: Schema, minibatch: Cells) -> Tensor:
    """Return measured values as tasks return them; zeros are exact."""
    x_ng = schema.transform.invert(minibatch.x.dense(), minibatch.condition.size_n1)
    return x_ng.masked_fill(x_ng.abs() < SMALLEST, 0) if schema.output_kind is Kind.LOG else x_ng


def _clusters(reference: Reference, step: int, x_mg: csr_array, known_mg: NDArray[np.bool_] | None) -> Clusters | None:
    """Return clusters of the reference cells, with the values of every few of them; None where too few are alike."""
    condition = reference.condition
    cluster_n = cluster(reference.mean_nk, reference.scale_nk, condition.size_n1, condition.codes, step)
    marginals = []
    for number in range(int(cluster_n.max()) + 1 if len(cluster_n) else 0):
        row = (cluster_n[::step] == number).numpy()
        marginals.append(Marginals.of(x_mg[row].toarray(), None if known_mg is None else known_mg[row]))
    return Clusters(cluster_n, tuple(marginals)) if marginals else None


def correction_of(reference: Reference, schema: Schema) -> Correction | None:
    """Fit the correction of the latent for the technical batch; None where there are no two batches."""
    if schema.batch is None:
        return None
    return Correction.fit(reference.mean_nk, reference.condition.codes[schema.batch], schema.n_categories[schema.batch])


def _zeros(cells: Loader) -> tuple[Tensor, Tensor]:
    """Return each gene's share of zeros, and its mean in the other cells, in the values that tasks return."""
    n_genes, transform = len(cells.schema.genes), cells.schema.transform
    n_g, n_positive_g, sum_g = torch.zeros(3, n_genes, dtype=torch.float64)
    for minibatch in cells:
        x_ng = transform.invert(minibatch.x.dense(), minibatch.condition.size_n1)
        measured_ng = minibatch.condition.measured_ng
        positive_ng = x_ng > SMALLEST if measured_ng is None else (x_ng > SMALLEST) & measured_ng
        n_g += minibatch.n_cells if measured_ng is None else measured_ng.sum(0)
        n_positive_g += positive_ng.sum(0)
        sum_g += (x_ng * positive_ng).sum(0)
    return 1 - n_positive_g / n_g.clamp(min=1), (sum_g / n_positive_g.clamp(min=1)).float()


def _samples(model: VAE, schema: Schema, reference: Reference, device: torch.device) -> Tensor:
    """Sample cells like evenly spaced reference cells."""
    n = max(500, MAX_SAMPLES // len(schema.genes))
    row_m = torch.arange(reference.n_cells)[:: -(-reference.n_cells // n)]
    samples = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for at in row_m.split(512):
            cells = reference.take(at).to(device)
            z = cells.mean_nk + cells.scale_nk * torch.randn_like(cells.mean_nk)
            samples.append(schema.transform.draw(model.likelihood(z, cells.condition), cells.condition.size_n1).cpu())
    return torch.cat(samples)


@dataclass(frozen=True, eq=False)
class Scored:
    """The bounds of validation cells under each category of a field.

    Parameters
    ----------
    row_n
        The cells.
    score_nc
        Their bounds, in nats.
    place_n
        The column of each cell's category.
    """

    row_n: NDArray[np.int64]
    score_nc: NDArray[np.float64]
    place_n: NDArray[np.int64]


def calibrate(
    model: VAE, training: Loader, validation: Loader, device: torch.device, progress: bool = False
) -> dict[str, tuple[Calibration, Scored]]:
    """Fit a temperature for the predicted probabilities of every categorical field; return the bounds too.

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
) -> tuple[Calibration, Scored]:
    share_c = (count_c + 0.5) / (count_c + 0.5).sum()
    log_prior_c, code_c = tuple(share_c.log().tolist()), tuple(seen.tolist())
    scores, codes, rows = [], [], []
    generator = torch.Generator().manual_seed(0)
    for minibatch in validation:
        true_nc = minibatch.condition.codes[name].unsqueeze(-1) == seen
        is_predicted = true_nc.any(-1)
        scores.append(bounds_nc(model, minibatch.to(device), name, code_c, generator).cpu()[is_predicted])
        codes.append(true_nc[is_predicted].long().argmax(-1))
        rows.append(minibatch.row_n[is_predicted])
        advance(true_nc.numel())
    n_known = sum(map(len, codes))
    if not n_known:
        nothing = np.empty(0, dtype=np.int64)
        return Calibration(1.0, log_prior_c, code_c), Scored(nothing, np.empty((0, len(code_c))), nothing)
    score_nc, place_n = torch.cat(scores).double(), torch.cat(codes)
    temperature = fit_temperature(score_nc, place_n, log_prior_c)
    scored = Scored(torch.cat(rows).numpy(), score_nc.numpy(), place_n.numpy())
    return Calibration(temperature if math.isfinite(temperature) else 1.0, log_prior_c, code_c), scored
