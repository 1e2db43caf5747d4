"""What the recipes for counts share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genevae.data.kind import Kind
from genevae.data.schema import Schema
from genevae.data.transform import AsIs, Transform
from genevae.errors import RecipeError
from genevae.models.likelihoods import Decoder, PerCell, PerGene, PerGeneCategory
from genevae.recipes.recipe import Recipe

__all__ = ["Counts", "OverdispersedCounts"]


@dataclass(frozen=True, kw_only=True)
class Counts(Recipe):
    """Counts enter the posterior as log(1 + x), and come out of the likelihood as counts."""

    needs_counts: ClassVar[bool] = True
    enter: ClassVar[Callable[[Tensor], Tensor]] = torch.log1p

    def transform(self, kind: Kind) -> Transform:  # noqa: ARG002 - `fit` has refused all but counts
        """Leave counts as they are."""
        return AsIs()


@dataclass(frozen=True, kw_only=True)
class OverdispersedCounts(Counts):
    """Counts that vary more than Poisson's.

    Parameters
    ----------
    dispersion
        What the inverse dispersion depends on: the gene, the gene and the category of the first condition (or of the
        technical batch, where there is one), or the gene and the cell.
    """

    dispersion: Literal["gene", "gene-category", "gene-cell"] = "gene"

    def inverse_dispersion(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make the module that says θ."""
        return _DISPERSIONS[self.dispersion](decoder, schema)


def _per_gene(decoder: Decoder, schema: Schema) -> nn.Module:  # noqa: ARG001 - one signature for all three
    return PerGene(len(schema.genes))


def _per_gene_category(decoder: Decoder, schema: Schema) -> nn.Module:  # noqa: ARG001 - one signature for all three
    if not schema.categorical:
        raise RecipeError("dispersion='gene-category' needs a condition or a technical batch. Give one, or use 'gene'.")
    field = schema.batch or schema.categorical[0].name
    return PerGeneCategory(len(schema.genes), field, schema.n_categories[field])


def _per_cell(decoder: Decoder, schema: Schema) -> nn.Module:
    return PerCell(len(schema.genes), decoder.n_out)


_DISPERSIONS: dict[str, Callable[[Decoder, Schema], nn.Module]] = {
    "gene": _per_gene,
    "gene-category": _per_gene_category,
    "gene-cell": _per_cell,
}
