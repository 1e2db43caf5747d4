"""What all tasks share: evaluation mode, seeded sampling, and the cells as minibatches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.data.genes import match_genes
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind, require_same_values
from genevae.distributions import ExpressionDistribution
from genevae.engine import Block
from genevae.errors import DataError, warn
from genevae.io.formats import ReadOptions, open_for_model
from genevae.io.source import Source
from genevae.labelling.labels import Labels
from genevae.models.classifier import Calibration
from genevae.models.correction import Correction
from genevae.models.reference import Reference
from genevae.models.vae import VAE
from genevae.progress import progress
from genevae.responses.answer import Responses
from genevae.tasks.missing import with_batches, with_expected_genes, with_labels

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "CellPass",
    "Passes",
    "TrainedModel",
    "draw_expression",
    "evaluation_mode",
    "lacks_genes",
    "on_device",
    "open_cells",
    "require_size",
    "seed_of_part",
    "seeded",
]

PART = 2**13
"""Cells of a part, about: what one worker computes at a time, with random numbers of its own."""

MAX_MISSING = 0.75
"""The share of the model's genes that data may lack without an option that says so."""


class TrainedModel(Protocol):
    """What tasks need from a trained model."""

    @property
    def module(self) -> VAE:
        """The network."""

    @property
    def schema(self) -> Schema:
        """Genes, covariates and kinds of values."""

    @property
    def reference(self) -> Reference:
        """Posteriors and conditions of some training cells."""

    @property
    def calibration(self) -> Mapping[str, Calibration]:
        """For each field, the calibration that turns bounds into probabilities."""

    @property
    def responses(self) -> Responses | None:
        """Profiles of the training cells in every state, from which responses are predicted; None without any."""

    @property
    def labels(self) -> Labels | None:
        """Label models of the fields that are labels; None without any."""

    @property
    def correction(self) -> Correction | None:
        """What removes the rest of the technical batch from the latent; None without two batches."""

    @property
    def integrates(self) -> bool:
        """Whether embeddings are corrected unless the caller says otherwise."""


@contextmanager
def evaluation_mode(model: TrainedModel) -> Iterator[VAE]:
    """Yield the module in evaluation mode and without gradients; restore the mode of every submodule afterwards."""
    modes = {part: part.training for part in model.module.modules()}
    model.module.eval()
    try:
        with torch.no_grad():
            yield model.module
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def seeded(module: VAE, seed: int) -> Iterator[None]:
    """Sample with this seed; restore the caller's random state afterwards."""
    device = _device(module)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def open_cells(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    layer: str | None,
    batch_size: int,
    fill: Sequence[str] = (),
) -> Loader:
    """Open data as minibatches in order, with the model's genes and codes.

    Genes that cells lack are missing, not zero, and cells without a known technical batch are taken as of the
    commonest; a warning says so.

    Parameters
    ----------
    fill
        Categorical fields that the data may lack, because the task sets them.

    Raises
    ------
    DataError
        If genes, columns or categories do not fit the model, or the kind of the values differs.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be 1 or more, not {batch_size}.")
    opened = open_for_model(data, layer, model.schema.layer)
    source = _with_genes(opened, model.schema, expected=model.schema.missing or lacks_genes(data))
    require_same_values(source, model.schema.kind, model.schema.total)
    if hasattr(model, "reference"):  # models of others that are evaluated have none
        source = with_labels(with_batches(source, model.schema, model.reference, fill), model, fill)
    return Loader(source, model.schema, InOrder(np.arange(len(source)), batch_size), fill)


def _with_genes(source: Source, schema: Schema, expected: bool) -> Source:
    """Return data with the model's genes; where unexpectedly many are missing, this is more likely a mistake."""
    matched = match_genes(source, schema.genes, allow_missing=True)
    n_missing = 0 if matched.panels is None else int((~matched.panels.measured_pg).sum(1).max())
    if n_missing and not expected:
        if n_missing > MAX_MISSING * len(schema.genes):
            match_genes(source, schema.genes)  # raises
        warn(
            f"{source.name} lacks {n_missing:,} of the {len(schema.genes):,} genes of the model: they are taken as "
            "missing, not zero, and their expected expression is used. The more are missing, the less exact it is."
        )
    return matched


def lacks_genes(data: object) -> bool:
    """Return whether data may lack genes of a model, by their option ``join``."""
    return isinstance(data, ReadOptions) and data.join == "outer"


@dataclass(frozen=True, eq=False)
class CellPass:
    """A pass over cells: a function of each minibatch.

    Parameters
    ----------
    model
        A trained model.
    cells
        The cells, as minibatches in order.
    function
        Returns the blocks of a minibatch; it is given the module, in evaluation mode.
    batch_size
        Cells in a minibatch.
    seed
        Seed of all parts. Each has its own random numbers, so that they do not depend on the worker.
    """

    model: TrainedModel
    cells: Loader
    function: Callable[[VAE, Cells], Iterable[Block]]
    batch_size: int
    seed: int = 0

    @property
    def per_part(self) -> int:
        """Minibatches in a part."""
        return max(1, PART // self.batch_size)

    @property
    def n_parts(self) -> int:
        """The number of parts."""
        return -(-len(self.cells) // self.per_part)

    def blocks(self, parts: range) -> Generator[Block, None, None]:
        """Yield the blocks of some parts, in order."""
        size = self.per_part * self.batch_size
        rows = self.cells.sampler.rows[parts.start * size : parts.stop * size]
        with evaluation_mode(self.model) as module, seeded(module, self.seed):
            minibatches = on_device(module, self.cells.over(InOrder(rows, self.batch_size)))
            for number, cells in enumerate(minibatches):
                if number % self.per_part == 0:
                    torch.manual_seed(seed_of_part(self.seed, parts.start + number // self.per_part))
                yield from self.function(module, cells)


@dataclass(frozen=True, eq=False)
class Passes:
    """Passes one after the other.

    Parameters
    ----------
    passes
        Each has all its parts before those of the next.
    """

    passes: Sequence[CellPass]

    @property
    def n_parts(self) -> int:
        """The number of parts of all."""
        return sum(each.n_parts for each in self.passes)

    def blocks(self, parts: range) -> Generator[Block, None, None]:
        """Yield the blocks of some parts, in order."""
        start = 0
        for each in self.passes:
            first, last = max(parts.start, start), min(parts.stop, start + each.n_parts)
            if first < last:
                yield from each.blocks(range(first - start, last - start))
            start += each.n_parts


def seed_of_part(seed: int, number: int) -> int:
    """Return the seed of a part; that of the first is the seed itself."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)


def on_device(module: VAE, minibatches: Loader) -> Iterator[Cells]:
    """Move each minibatch to the model's device."""
    device = _device(module)
    with progress("cells", minibatches.sampler.n_cells, after=2.0) as advance:
        for cells in minibatches.on(device):
            yield with_expected_genes(module, cells.to(device))
            advance(len(cells.row_n))


def posteriors(model: TrainedModel, cells: Loader) -> tuple[Tensor, Tensor, Condition]:
    """Return mean and standard deviation of q(z | x, c) of every cell, cells × latent, and their conditions.

    All are on the CPU. Conditions have the size that the model gives each cell, and say nothing of missing genes.
    """
    means, scales, conditions = [], [], []
    with evaluation_mode(model) as module:
        for minibatch in on_device(module, cells):
            q = module.posterior(minibatch)
            means.append(q.mean.cpu())
            scales.append(q.scale.cpu())
            conditions.append(module.sized(minibatch).with_measured(None).map(lambda t: t.cpu()))
    return torch.cat(means), torch.cat(scales), Condition.join(conditions)


def draw_expression(model: TrainedModel, p: ExpressionDistribution, size_n1: Tensor) -> Tensor:
    """Sample cells of these sizes from p, in the units of the result.

    Counts are not far above any in training; log-normalised values have each gene's share of zeros in training.
    """
    x_ng = model.schema.transform.draw(p, size_n1)
    limits, hurdle = model.reference.limits, model.reference.hurdle
    if model.schema.output_kind is Kind.LOG:
        return x_ng.clamp(min=0) if hurdle is None else hurdle.apply(x_ng)
    return x_ng if limits is None else p.within(x_ng, limits.of_counts(size_n1))


def require_size(model: TrainedModel, size: float | None) -> None:
    """Check that a size, if given, is valid and that the model can use it.

    Raises
    ------
    DataError
        If the size is not positive, or the model does not return counts.
    """
    if size is None:
        return
    if not size > 0:
        raise DataError(f"size (counts per cell) must be above 0, not {size}.")
    if not model.schema.output_kind.is_count:
        raise DataError(
            f"size (counts per cell) needs a model of counts, but this one returns {model.schema.output_kind} values. "
            "Leave it out, or use a recipe for counts, such as nb."
        )


def _device(module: VAE) -> torch.device:
    return next(module.parameters()).device
