"""Denoised expression: the expectation given each cell, without sampling noise."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.errors import CategoryError, DataError
from genevae.models.vae import VAE
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells, require_size, seeded
from genevae.tasks.output import TaskOutput, in_columns_of, require_writable, to_numpy, values_uns
from genevae.tasks.posterior_expectation import expectations_sng, in_blocks
from genevae.tasks.task import add_to, task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.data.loader import Loader
    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source
    from genevae.io.write.anndata import Block

__all__ = ["denoise"]


@task
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
    into: str | Path | None = None,
    key_added: str | None = None,
    overwrite: bool = False,
) -> AnnData:
    """Denoise cells: return the expected expression of each.

    E[x | z, c], averaged over q(z | x, c).

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions.
    size
        Counts per cell. By default each cell keeps its size.
    average_batches
        Average over all technical batches, as if each cell had been measured in every one.
    n_draws
        Samples from the posterior of each cell.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Seed of the samples.
    out
        Write the result to this path block by block, as .h5ad or .zarr (or .npy for X alone), and return its tables.
    into
        Add the result to this .h5ad file of the same cells instead: X as the layer ``denoised``, NaN for genes that
        the model lacks. All else in the file stays as it is.
    key_added
        Also add the result to the given AnnData, as the layer of this name, NaN for genes that the model lacks.
    overwrite
        Whether to replace an existing result.

    Returns
    -------
    AnnData
        The obs of the cells and their expected expression: counts or log-normalised values; see ``uns["genevae"]``.

    Raises
    ------
    CategoryError
        If the model has no technical batch to average over.
    DataError
        If genes, columns or categories do not fit the model, or a size is given but the model does not return counts.
    """
    require_size(model, size)
    if n_draws < 1:
        raise DataError(f"n_draws must be 1 or more, not {n_draws}.")
    require_writable(out, overwrite, model, data, into=into)
    cells = open_cells(model, data, layer, batch_size)
    blocks = _blocks(model, cells, size, _batch_codes(model) if average_batches else None, n_draws, seed)
    obs, genes = cells.source.obs.copy(), model.schema.genes
    output = TaskOutput(obs, genes, blocks, values_uns(model.schema), "denoised", like=data)
    result = output.to_anndata(out, into, overwrite)
    if key_added is not None:
        add_to(data, {f"layers/{key_added}": in_columns_of(data, result)})
    return result


def _blocks(
    model: TrainedModel, cells: Loader, size: float | None, batch: tuple[str, int] | None, n_draws: int, seed: int
) -> Generator[Block, None, None]:
    with evaluation_mode(model) as module, seeded(module, seed):
        for minibatch in on_device(module, cells):
            for block in in_blocks(minibatch, n_draws):
                target = module.sized(block)
                if size is not None:
                    target = target.with_size(torch.full_like(target.size_n1, size))
                expected_ng = _expected(module, block, target, batch, n_draws)
                yield {"X": to_numpy(model.schema.transform.invert(expected_ng, target.size_n1))}


def _batch_codes(model: TrainedModel) -> tuple[str, int]:
    """Return the name of the technical batch and its number of categories."""
    if model.schema.batch is None:
        raise CategoryError(
            "This model has no technical batch to average over. Train it with --batch NAME, or leave out "
            "--average-batches."
        )
    return model.schema.batch, model.schema.n_categories[model.schema.batch]


def _expected(module: VAE, cells: Cells, target: Condition, batch: tuple[str, int] | None, n_draws: int) -> Tensor:
    targets = [target]
    if batch is not None:
        name, n_codes = batch
        targets = [target.replace(codes={name: torch.full_like(target.codes[name], c)}) for c in range(n_codes)]
    return torch.stack([expectations_sng(module, cells, each, n_draws).mean(0) for each in targets]).mean(0)
