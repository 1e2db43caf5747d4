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
from genevae.progress import progress as shown_progress

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
    schema, means, scales, conditions, sizes = cells.schema, [], [], [], []
    observed = _Observed(schema, cells.sampler.n_cells)
    for minibatch in cells:
        observed.add(minibatch)
        sizes.append(minibatch.condition.size_n1)
        on_device = minibatch.to(device)
        q = model.posterior(on_device)
        means.append(q.mean.cpu())
        scales.append(q.scale.cpu())
        conditions.append(on_device.given(model.sized(on_device).with_measured(None)).to("cpu").condition)
    counts = schema.has_noise_model and schema.output_kind.is_count
    limits = Limits(observed.highest_g, torch.stack(torch.cat(sizes).aminmax())) if counts else None
    reference = Reference(torch.cat(means), torch.cat(scales), Condition.join(conditions), limits=limits)
    reference = replace(reference, clusters=observed.clusters(reference))
    if schema.output_kind is not Kind.LOG:
        return reference
    return replace(reference, hurdle=Hurdle.fit(_samples(model, schema, reference, device), *observed.zeros()))


class _Observed:
    """The values of cells, as tasks return them: sums over all cells, and the values of evenly spaced ones."""

    def __init__(self, schema: Schema, n_cells: int) -> None:
        n_genes = len(schema.genes)
        self.schema = schema
        self.step = max(1, math.ceil(n_cells * n_genes / MAX_SAMPLES))
        self.highest_g = torch.zeros(n_genes)
        self._n_seen = 0
        self._n_g, self._n_positive_g, self._sum_g = torch.zeros(3, n_genes, dtype=torch.float64)
        self._values: list[csr_array] = []
        self._measured: list[NDArray[np.bool_]] = []

    def add(self, minibatch: Cells) -> None:
        """Add cells; those of genes that they have not measured do not count."""
        x_ng = self.schema.transform.invert(minibatch.x.dense(), minibatch.condition.size_n1)
        if self.schema.output_kind is Kind.LOG:
            x_ng = x_ng.masked_fill(x_ng.abs() < SMALLEST, 0)
        measured_ng = minibatch.condition.measured_ng
        positive_ng = x_ng > SMALLEST if measured_ng is None else (x_ng > SMALLEST) & measured_ng
        self._n_g += minibatch.n_cells if measured_ng is None else measured_ng.sum(0)
        self._n_positive_g += positive_ng.sum(0)
        self._sum_g += (x_ng * positive_ng).sum(0)
        self.highest_g = torch.maximum(self.highest_g, x_ng.amax(0))
        some = slice(-self._n_seen % self.step, None, self.step)
        self._values.append(csr_array(x_ng[some].numpy()))
        if measured_ng is not None:
            self._measured.append(measured_ng[some].numpy())
        self._n_seen += minibatch.n_cells

    def zeros(self) -> tuple[Tensor, Tensor]:
        """Return each gene's share of zeros, and its mean in the other cells."""
        return 1 - self._n_positive_g / self._n_g.clamp(min=1), (self._sum_g / self._n_positive_g.clamp(min=1)).float()

    def clusters(self, reference: Reference) -> Clusters | None:
        """Return clusters of the cells, with the values of those that were kept; None where too few are alike."""
        condition = reference.condition
        cluster_n = cluster(reference.mean_nk, reference.scale_nk, condition.size_n1, condition.codes, self.step)
        if (cluster_n < 0).all():
            return None
        x_mg, cluster_m = vstack(self._values, format="csr"), cluster_n[:: self.step].numpy()
        known_mg = np.concatenate(self._measured) if self._measured else None
        rows = [cluster_m == number for number in range(int(cluster_n.max()) + 1)]
        return Clusters(
            cluster_n,
            tuple(Marginals.of(x_mg[row].toarray(), None if known_mg is None else known_mg[row]) for row in rows),
        )


def correction_of(reference: Reference, schema: Schema) -> Correction | None:
    """Fit the correction of the latent for the technical batch; None where there are no two batches."""
    if schema.batch is None:
        return None
    return Correction.fit(reference.mean_nk, reference.condition.codes[schema.batch], schema.n_categories[schema.batch])


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
    with shown_progress("calibrating", n_evaluations, progress, after=2) as advance:
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
