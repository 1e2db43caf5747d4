"""Borrow a trained model and give it back as it was; open the cells that it is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from genevae.cells import Cells
from genevae.data.genes import match_genes
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Schema
from genevae.data.value_kind import probe
from genevae.errors import DataError
from genevae.io.formats import ReadOptions, open_source
from genevae.io.source import Source
from genevae.models.classifier import Calibration
from genevae.models.reference import Reference
from genevae.models.vae import VAE

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "TrainedModel",
    "evaluation_mode",
    "on_device",
    "open_cells",
    "require_size",
    "seeded",
]


class TrainedModel(Protocol):
    """What a task needs of a trained model."""

    @property
    def module(self) -> VAE:
        """The model."""

    @property
    def schema(self) -> Schema:
        """What it knows of its data."""

    @property
    def reference(self) -> Reference:
        """What it remembers of its training cells."""

    @property
    def calibration(self) -> Mapping[str, Calibration]:
        """How each field's bounds become probabilities."""


@contextmanager
def evaluation_mode(model: TrainedModel) -> Iterator[VAE]:
    """Lend the module in evaluation mode and without gradients, and give every part its mode back."""
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
    """Draw with a seed of its own, and leave the caller's random numbers as they were."""
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

    A model that was trained on cells of which some lacked genes is given such cells here too.

    Raises
    ------
    DataError
        If genes, columns or categories do not fit the model, or the values are of another kind.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be 1 or more, not {batch_size}.")
    source = match_genes(open_source(data, layer), model.schema.genes, model.schema.missing)
    kind = probe(source)
    if kind.is_count != model.schema.kind.is_count:
        raise DataError(
            f"{source.name} holds {kind} values, and this model was trained on {model.schema.kind}. "
            f"Give the same kind of values, perhaps from another layer (--layer)."
        )
    return Loader(source, model.schema, InOrder(np.arange(len(source)), batch_size), fill)


def on_device(module: VAE, minibatches: Loader) -> Iterator[Cells]:
    """Move each minibatch to where the model is."""
    device = _device(module)
    for cells in minibatches:
        yield cells.to(device)


def require_size(model: TrainedModel, size: float | None) -> None:
    """Refuse a size that is none, or that the model cannot use.

    Raises
    ------
    DataError
        If it is not positive, or the model is not one of counts.
    """
    if size is None:
        return
    if not size > 0:
        raise DataError(f"size is counts per cell, and must be above 0, not {size}.")
    if not model.schema.answers_in.is_count:
        raise DataError(
            f"size is counts per cell, and this model answers in {model.schema.answers_in} values. Leave it out, "
            "or use a recipe for counts, such as nb."
        )


def _device(module: VAE) -> torch.device:
    return next(module.parameters()).device
