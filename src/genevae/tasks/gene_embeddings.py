"""Genes as vectors, and which of them are alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor

from genevae.errors import DataError
from genevae.tasks.inference import TrainedModel, evaluation_mode
from genevae.tasks.output import Answer, numbers, require_writable

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.write.anndata import Block

__all__ = ["genes"]

AT_ONCE = 1024
"""Genes that are compared with all others at once."""


def genes(
    model: TrainedModel,
    *,
    neighbours: int = 50,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> AnnData:
    """Embed genes: the vector by which the decoder makes each, and the genes whose vectors are most alike.

    The mean (or the logarithm of the share, in models of counts) of gene g is linear in the decoder's last hidden
    units: v_g · h + b_g. Genes are as alike as the cosine of their v_g.

    Parameters
    ----------
    model
        A trained model.
    neighbours
        Genes whose similarity to a gene is kept: the nearest; 0 keeps none.
    out
        Write the answer here, .h5ad or .zarr, and return its tables only.
    overwrite
        Whether a store that is there is replaced.

    Returns
    -------
    AnnData
        One row per gene: ``obsm["X_genevae"]``, its vector, and ``obsp["similarity"]``, the cosine with each of its
        nearest genes, sparse; a gene is not its own neighbour.

    Raises
    ------
    DataError
        If the model's decoder does not end in a vector per gene, or ``neighbours`` is negative.
    """
    if neighbours < 0:
        raise DataError(f"neighbours must be 0 or more, not {neighbours}.")
    require_writable(out, overwrite)
    with evaluation_mode(model) as module:
        vector_gh = module.gene_vectors()
    if vector_gh is None:
        raise DataError(
            "This model's decoder does not end in one vector per gene, so that it has none to give. Train one that "
            "does, with a recipe such as bulk, gaussian or nb."
        )
    obs = pd.DataFrame(index=pd.Index(model.schema.genes, dtype=object))
    return Answer(obs, (), _pieces(vector_gh.detach(), min(neighbours, len(obs) - 1))).give(out)


def _pieces(vector_gh: Tensor, neighbours: int) -> Iterator[Block]:
    direction_gh = F.normalize(vector_gh, dim=-1)
    for first in range(0, len(vector_gh), AT_ONCE):
        piece = {"obsm/X_genevae": numbers(vector_gh[first : first + AT_ONCE])}
        if neighbours > 0:
            piece["obsp/similarity"] = _nearest(direction_gh, first, neighbours)
        yield piece


def _nearest(direction_gh: Tensor, first: int, neighbours: int) -> sparse.csr_matrix:
    """Return the largest cosines of some genes, those of a gene with itself left out."""
    cosine_gg = direction_gh[first : first + AT_ONCE] @ direction_gh.T
    n = len(cosine_gg)
    cosine_gg[torch.arange(n), torch.arange(first, first + n)] = -torch.inf
    value, gene = cosine_gg.topk(neighbours)
    indptr = np.arange(n + 1) * neighbours
    rows = sparse.csr_matrix((numbers(value).ravel(), numbers(gene).ravel(), indptr), (n, len(direction_gh)))
    rows.sort_indices()
    return rows
