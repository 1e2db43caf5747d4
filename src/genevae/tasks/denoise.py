"""Denoised expression: the expectation given each cell, without sampling noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.engine import Block, Plan, Workers
from genevae.errors import CategoryError, DataError
from genevae.models.vae import VAE
from genevae.tasks.inference import CellPass, TrainedModel, open_cells, require_size
from genevae.tasks.output import TaskOutput, in_columns_of, require_writable, to_numpy, values_uns
from genevae.tasks.posterior_expectation import expectations_sng, in_blocks
from genevae.tasks.task import add_to, task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

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
    executor: Workers | None = None,
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
    executor
        Where the cells are computed: "processes:4", "dask:ADDRESS", "submitit:PARTITION", a pool, a ``Client`` of Dask
        or an executor of submitit; by default this process. The result does not depend on it.

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
    plan = Plan(
        _denoised, model=model, data=data, size=size, average_batches=average_batches, n_draws=n_draws, layer=layer,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    obs, genes = plan.here.cells.source.obs.copy(), model.schema.genes
    output = TaskOutput(obs, genes, plan, values_uns(model.schema), "denoised", like=data)
    result = output.to_anndata(out, into, overwrite, executor)
    if key_added is not None:
        add_to(data, {f"layers/{key_added}": in_columns_of(data, result)})
    return result


def _denoised(
    model: TrainedModel, data: Any, size: float | None, average_batches: bool, n_draws: int, layer: str | None,
    batch_size: int, seed: int,
) -> CellPass:  # fmt: skip
    batch = _batch_codes(model) if average_batches else None

    def expected(module: VAE, minibatch: Cells) -> Iterator[Block]:
        for block in in_blocks(minibatch, n_draws):
            target = module.sized(block)
            if size is not None:
                target = target.with_size(torch.full_like(target.size_n1, size))
            expected_ng = _expected(module, block, target, batch, n_draws)
            yield {"X": to_numpy(model.schema.transform.invert(expected_ng, target.size_n1))}

    return CellPass(model, open_cells(model, data, layer, batch_size), expected, batch_size, seed)


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
