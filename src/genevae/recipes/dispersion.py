"""What an inverse dispersion may depend on, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from genevae.data.schema import Schema
from genevae.errors import RecipeError
from genevae.models.likelihoods import Decoder, PerCell, PerGene, PerGeneCategory

__all__ = ["DISPERSIONS", "Dispersion"]

Dispersion = Literal["gene", "gene-category", "gene-cell"]
"""The gene; the gene and the category of the technical batch, or of the first condition; or the gene and the cell."""


def _per_gene(decoder: Decoder, schema: Schema) -> nn.Module:  # noqa: ARG001 - one signature for all three
    return PerGene(len(schema.genes))


def _per_gene_category(decoder: Decoder, schema: Schema) -> nn.Module:  # noqa: ARG001 - one signature for all three
    if not schema.categorical:
        raise RecipeError("dispersion='gene-category' needs a condition or a technical batch. Give one, or use 'gene'.")
    field = schema.batch or schema.categorical[0].name
    return PerGeneCategory(len(schema.genes), field, schema.n_codes[field])


def _per_cell(decoder: Decoder, schema: Schema) -> nn.Module:
    return PerCell(len(schema.genes), decoder.n_out)


DISPERSIONS: dict[str, Callable[[Decoder, Schema], nn.Module]] = {
    "gene": _per_gene,
    "gene-category": _per_gene_category,
    "gene-cell": _per_cell,
}
