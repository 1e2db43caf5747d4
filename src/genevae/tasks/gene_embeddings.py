"""Gene embeddings: the decoder weights of each gene, and the most similar genes."""

from __future__ import annotations

from collections.abc import Generator
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
from genevae.tasks.output import TaskOutput, require_writable, to_numpy
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.write.anndata import Block

__all__ = ["gene_embeddings"]

BLOCK_SIZE = 1024
"""Genes compared with all others in one step."""


@task
def gene_embeddings(
    model: TrainedModel,
    *,
    neighbours: int = 50,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> AnnData:
    """Embed genes: the decoder's weight vector of each gene, and the genes with the most similar vectors.

    The mean of gene g (in models of counts, the logit of its proportion) is linear in the decoder's last hidden units
    h: v_g · h + b_g. The similarity of two genes is the cosine of their v_g.

    Parameters
    ----------
    model
        A trained model.
    neighbours
        Number of most similar genes to keep for each gene; 0 keeps none.
    out
        Write the result to this path, as .h5ad or .zarr, and return its tables.
    overwrite
        Whether to replace an existing result.

    Returns
    -------
    AnnData
        One row per gene: ``obsm["X_genevae"]``, its vector, and ``obsp["similarity"]``, the cosine with each of its
        nearest genes (sparse, without the gene itself).

    Raises
    ------
    DataError
        If the model's decoder does not end in one vector per gene, or ``neighbours`` is negative.
    """
    if neighbours < 0:
        raise DataError(f"neighbours must be 0 or more, not {neighbours}.")
    require_writable(out, overwrite, model)
    with evaluation_mode(model) as module:
        vector_gh = module.gene_embeddings()
    if vector_gh is None:
        raise DataError(
            "This model has no gene embeddings, because its decoder does not end in one vector per gene. Train a model "
            "with a recipe such as bulk, gaussian or nb."
        )
    obs = pd.DataFrame(index=pd.Index(model.schema.genes, dtype=object))
    return TaskOutput(obs, (), _blocks(vector_gh.detach(), min(neighbours, len(obs) - 1))).to_anndata(out)


def _blocks(vector_gh: Tensor, neighbours: int) -> Generator[Block, None, None]:
    unit_gh = F.normalize(vector_gh, dim=-1)
    for start in range(0, len(vector_gh), BLOCK_SIZE):
        block = {"obsm/X_genevae": to_numpy(vector_gh[start : start + BLOCK_SIZE])}
        if neighbours > 0:
            block["obsp/similarity"] = _nearest(unit_gh, start, neighbours)
        yield block


def _nearest(unit_gh: Tensor, start: int, neighbours: int) -> sparse.csr_matrix:
    """Return the largest cosines of one block of genes with all genes but themselves."""
    cosine_gg = unit_gh[start : start + BLOCK_SIZE] @ unit_gh.T
    n = len(cosine_gg)
    cosine_gg[torch.arange(n), torch.arange(start, start + n)] = -torch.inf
    value, gene = cosine_gg.topk(neighbours)
    indptr = np.arange(n + 1) * neighbours
    rows = sparse.csr_matrix((to_numpy(value).ravel(), to_numpy(gene).ravel(), indptr), (n, len(unit_gh)))
    rows.sort_indices()
    return rows
