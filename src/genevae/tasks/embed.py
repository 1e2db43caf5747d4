"""Where cells lie in the latent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from genevae.tasks.borrow import TrainedModel, borrowed, on_device, open_cells, to_anndata

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.data.sources.source import Source

__all__ = ["embed"]


def embed(
    model: TrainedModel, data: AnnData | Source | str | Path, *, layer: str | None = None, batch_size: int = 512
) -> AnnData:
    """Embed cells: where each lies in the latent.

    The mean and standard deviation of q(z | x, c).

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

    Returns
    -------
    AnnData
        The obs of the cells, ``obsm["X_genevae"]`` (means, cells × latent) and ``obsm["X_genevae_scale"]``.

    Raises
    ------
    DataError
        If genes, columns or categories do not fit the model.
    """
    cells = open_cells(model, data, layer, batch_size)
    with borrowed(model) as module:
        posteriors = [module.posterior(minibatch) for minibatch in on_device(module, cells)]
    adata = to_anndata(cells, model)
    adata.obsm["X_genevae"] = torch.cat([q.mean for q in posteriors]).cpu().numpy()
    adata.obsm["X_genevae_scale"] = torch.cat([q.scale for q in posteriors]).cpu().numpy()
    return adata
