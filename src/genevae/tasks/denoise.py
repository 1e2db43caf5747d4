"""Expression without the noise of sampling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.errors import CategoryError, DataError
from genevae.models.vae import VAE
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells, require_size, seeded
from genevae.tasks.output import Answer, numbers, require_writable, values_note
from genevae.tasks.posterior_expectation import expectations_sng, in_pieces

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.data.loader import Loader
    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source
    from genevae.io.write.anndata import Block

__all__ = ["denoise"]


def denoise(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    size: float | None = None,
    average_batches: bool = False,
    n_draws: int = 10,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> AnnData:
    """Denoise cells: the expression to be expected of each.

    E[x | z, c], averaged over q(z | x, c).

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions.
    size
        Give every cell this many counts; by default each keeps its own.
    average_batches
        Average over all technical batches, as if each cell had been measured in every one.
    n_draws
        Draws from the posterior of each cell.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Of the draws.
    out
        Write the answer here, .h5ad or .zarr (or .npy for its main array alone), as it comes, and return its tables.
    overwrite
        Whether a store that is there is replaced.

    Returns
    -------
    AnnData
        The obs of the cells, and their expected expression: counts, or log-normalised values, as ``uns["genevae"]``
        says.

    Raises
    ------
    DataError
        If genes, columns or categories do not fit the model, it has no technical batch to average over, or a size is
        asked of a model of anything but counts.
    """
    require_size(model, size)
    if n_draws < 1:
        raise DataError(f"n_draws must be 1 or more, not {n_draws}.")
    require_writable(out, overwrite)
    cells = open_cells(model, data, layer, batch_size)
    pieces = _pieces(model, cells, size, _batch_codes(model) if average_batches else None, n_draws, seed)
    return Answer(cells.source.obs.copy(), model.schema.genes, pieces, values_note(model.schema)).give(out)


def _pieces(
    model: TrainedModel, cells: Loader, size: float | None, batch: tuple[str, int] | None, n_draws: int, seed: int
) -> Iterator[Block]:
    with evaluation_mode(model) as module, seeded(module, seed):
        for minibatch in on_device(module, cells):
            for part in in_pieces(minibatch, n_draws):
                target = module.sized(part)
                if size is not None:
                    target = target.with_size(torch.full_like(target.size_n1, size))
                expected_ng = _expected(module, part, target, batch, n_draws)
                yield {"X": numbers(model.schema.transform.invert(expected_ng, target.size_n1))}


def _batch_codes(model: TrainedModel) -> tuple[str, int]:
    if model.schema.batch is None:
        raise CategoryError(
            "This model has no technical batch to average over. Train it with --batch NAME, or leave out "
            "--average-batches."
        )
    return model.schema.batch, model.schema.n_categories[model.schema.batch]


def _expected(module: VAE, cells: Cells, target: Condition, batch: tuple[str, int] | None, n_draws: int) -> Tensor:
    targets = [target] if batch is None else [_in_batch(target, batch[0], code) for code in range(batch[1])]
    return torch.stack([expectations_sng(module, cells, each, n_draws).mean(0) for each in targets]).mean(0)


def _in_batch(target: Condition, name: str, code: int) -> Condition:
    return target.replace(codes={name: torch.full_like(target.codes[name], code)})
