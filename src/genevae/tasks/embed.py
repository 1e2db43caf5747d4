"""Embeddings of cells: their posterior in the latent space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genevae.engine import Block, Plan, Workers
from genevae.errors import RunError, warn
from genevae.tasks.inference import CellPass, TrainedModel, open_cells
from genevae.tasks.output import TaskOutput, require_writable, to_numpy
from genevae.tasks.task import add_to, task

if TYPE_CHECKING:
    from anndata import AnnData
    from torch import Tensor, nn

    from genevae.cells import Cells
    from genevae.data.loader import Loader
    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source
    from genevae.models.correction import Correction
    from genevae.models.vae import VAE

__all__ = ["embed"]


@task
def embed(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    correct: bool | None = None,
    layer: str | None = None,
    batch_size: int = 512,
    out: str | Path | None = None,
    into: str | Path | None = None,
    key_added: str | None = None,
    overwrite: bool = False,
    executor: Workers | None = None,
) -> AnnData:
    """Embed cells in the latent space.

    Returns the mean and standard deviation of q(z | x, c). Models trained with a contrastive objective also return the
    projection that the objective compares.

    A model with a technical batch can correct the means: it keeps soft clusters of its training cells, with an offset
    of each batch in each. Cells of other batches are not corrected.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions.
    correct
        Whether to correct the means for the technical batch; by default where the recipe integrates batches, as
        adversarial does.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    out
        Write the result to this path block by block, as .h5ad or .zarr (or .npy for the means alone), and return its
        tables.
    into
        Add the result to the obsm of this .h5ad file of the same cells instead. All else in the file stays as it is.
    key_added
        Also add the result to the given AnnData, as ``obsm[key_added]``, with the standard deviations in
        ``obsm[key_added + "_scale"]``.
    overwrite
        Whether to replace an existing result.
    executor
        Where the cells are computed: "processes:4", "dask:ADDRESS", "submitit:PARTITION", a pool, a ``Client`` of Dask
        or an executor of submitit; by default this process. The result does not depend on it.

    Returns
    -------
    AnnData
        The obs of the cells, ``obsm["X_genevae"]`` (means, cells × latent) and ``obsm["X_genevae_scale"]`` (standard
        deviations); from contrastive recipes also ``obsm["X_genevae_projected"]``, with rows of length one.

    Raises
    ------
    DataError
        If genes, columns or categories do not fit the model.
    RunError
        If the means are to be corrected, and the model has no correction.
    """
    correction = _correction(model, correct)
    require_writable(out, overwrite, model, data, into=into)
    plan = Plan(_posteriors, model=model, data=data, correct=correct, layer=layer, batch_size=batch_size)
    cells = plan.here.cells
    if correction is not None:
        _warn_of_uncorrected(correction, cells, str(model.schema.batch))
    result = TaskOutput(cells.source.obs, (), plan, like=data).to_anndata(out, into, overwrite, executor)
    if key_added is not None:
        kept = {"": "X_genevae", "_scale": "X_genevae_scale"}
        add_to(data, {f"obsm/{key_added}{end}": result.obsm[name] for end, name in kept.items()})
    return result


def _correction(model: TrainedModel, correct: bool | None) -> Correction | None:
    if correct and model.correction is None:
        raise RunError(
            f"This model cannot correct its latent for {model.schema.batch or 'a technical batch'}: its training cells "
            "are too few or of one batch, or it is of an earlier version. Leave out --correct, or train again with "
            "--batch FIELD."
        )
    return model.correction if correct or (correct is None and model.integrates) else None


def _posteriors(model: TrainedModel, data: Any, correct: bool | None, layer: str | None, batch_size: int) -> CellPass:
    correction = _correction(model, correct)
    if correction is not None:
        correction = correction.to(next(model.module.parameters()).device)
    view = model.schema.view.name if model.schema.view else None

    def posteriors(module: VAE, minibatch: Cells) -> Iterator[Block]:
        q = module.posterior(minibatch)
        mean_nk = q.mean
        if correction is not None:
            mean_nk = correction(mean_nk, minibatch.condition.codes[str(model.schema.batch)])
        block = {"obsm/X_genevae": to_numpy(mean_nk), "obsm/X_genevae_scale": to_numpy(q.scale)}
        if module.projection is not None:
            block["obsm/X_genevae_projected"] = to_numpy(_projected(module.projection, q.mean, minibatch, view))
        yield block

    return CellPass(model, open_cells(model, data, layer, batch_size), posteriors, batch_size)


def _warn_of_uncorrected(correction: Correction, cells: Loader, batch: str) -> None:
    n_uncorrected = int((~correction.covers(cells.codes(batch))).sum())
    if n_uncorrected:
        warn(
            f"{n_uncorrected:,} cells are of a {batch} that no training cell has: their latent is not corrected. To "
            "learn its correction: genevae map RUN DATA --out NEW."
        )


def _projected(projection: nn.Module, z_nk: Tensor, cells: Cells, view: str | None) -> Tensor:
    """Project by the view of each cell, where there are two; a cell whose view is not known is of the first."""
    by_view: Tensor = projection(z_nk) if view is None else projection(z_nk, None, cells.condition.codes[view])
    return by_view
