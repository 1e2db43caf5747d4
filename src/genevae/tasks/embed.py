"""Where cells lie in the latent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells
from genevae.tasks.output import Answer, numbers, require_writable

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.data.loader import Loader
    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source
    from genevae.io.write.anndata import Block

__all__ = ["embed"]


def embed(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    layer: str | None = None,
    batch_size: int = 512,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> AnnData:
    """Embed cells: where each lies in the latent.

    The mean and standard deviation of q(z | x, c); where the model was trained to compare cells, also the direction by
    which it does.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    out
        Write the answer here, .h5ad or .zarr (or .npy for its main array alone), as it comes, and return its tables.
    overwrite
        Whether a store that is there is replaced.

    Returns
    -------
    AnnData
        The obs of the cells, ``obsm["X_genevae"]`` (means, cells × latent) and ``obsm["X_genevae_scale"]``; from a
        recipe that compares cells ``obsm["X_genevae_projected"]`` too, whose rows have length one.

    Raises
    ------
    DataError
        If genes, columns or categories do not fit the model.
    """
    require_writable(out, overwrite)
    cells = open_cells(model, data, layer, batch_size)
    return Answer(cells.source.obs.copy(), (), _posteriors(model, cells)).give(out)


def _posteriors(model: TrainedModel, cells: Loader) -> Iterator[Block]:
    with evaluation_mode(model) as module:
        for minibatch in on_device(module, cells):
            q = module.posterior(minibatch)
            piece = {"obsm/X_genevae": numbers(q.mean), "obsm/X_genevae_scale": numbers(q.scale)}
            if module.projection is not None:
                piece["obsm/X_genevae_projected"] = numbers(module.projection(q.mean))
            yield piece
