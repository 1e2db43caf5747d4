"""System D: a conditional VAE of genes laid out as an image, which simulates count matrices per cell type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genevae.data.schema import Schema
from genevae.data.transforms.gene_order import Ordered
from genevae.data.transforms.minmax import ScaleToUnit
from genevae.data.transforms.transform import AsIs, Transform
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError
from genevae.models.convolution import ImageDecoder, ImagePosterior
from genevae.models.likelihoods import ImageNegativeBinomialLikelihood, ImageNormalLikelihood, PerGene
from genevae.models.vae import VAE
from genevae.nn.image import Layout, curve, smallest_side
from genevae.nn.mlp import ACTIVATIONS
from genevae.nn.one_hot import OneHot
from genevae.recipes.recipe import Recipe

__all__ = ["Convolutional", "ConvolutionalNB"]


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, kw_only=True)
class Convolutional(Recipe):
    """Convolutional CVAE: genes as a square image from nought to one; squared error plus KL.

    With 11 labels and an image of 144 × 144, it has 1,503,877 parameters::

        label to a second channel    11 · 20,736 + 20,736 =   248,832
        convolution 2 → 16           9 ·  2 · 16 +     16 =       304
        convolution 16 → 32          9 · 16 · 32 +     32 =     4,640
        dense 36 · 36 · 32 → 16      41,472 · 16 +     16 =   663,568
        mean and log-variance        2 · (16 · 2 +      2) =       68
        latent and label, dense      13 · 41,472 + 41,472 =   580,608
        transposed 32 → 16           9 · 32 · 16 +     16 =     4,624
        transposed 16 → 8            9 · 16 ·  8 +      8 =     1,160
        transposed 8 → 1             9 ·  8 ·  1 +      1 =        73

    Parameters
    ----------
    image_size
        Side of the image, in pixels; by default that of the smallest that holds the genes.
    order
        How genes are laid out: by mean expression or by likeness of their correlations, along a curve that keeps
        neighbours together; or as given, row by row.
    filters, kernel
        Channels that each convolution of stride two makes, and the side of its kernel, odd. Transposed convolutions
        mirror them.
    hidden
        Width of each dense layer between the convolutions and the latent.
    reconstruction_weight
        Weight of the squared error. With 1 it is the plain sum of squared error and KL, next to which the errors of
        numbers from nought to one are so small that the latent may come to tell nothing.
    """

    enter: ClassVar[Callable[[Tensor], Tensor]] = _as_it_is

    n_latent: int = 2
    hidden: tuple[int, ...] = (16,)
    norm: str = "none"
    dropout: float = 0.0
    batch_size: int = 32
    learning_rate: float = 3e-3
    reconstruction_weight: float = 100.0
    image_size: int | None = None
    order: Literal["expression", "correlation", "given"] = "correlation"
    filters: tuple[int, ...] = (16, 32)
    kernel: int = 3

    def __post_init__(self) -> None:
        """Refuse settings that no model can use."""
        super().__post_init__()
        if not self.filters or min(self.filters) < 1:
            raise RecipeError(f"Convolutions need one filter at least, not filters={self.filters}.")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise RecipeError(f"kernel must be odd, such as 3, not {self.kernel}.")
        if self.image_size is not None and self.image_size < 1:
            raise RecipeError(f"image_size must be 1 or more, not {self.image_size}.")

    def transform(self, kind: Kind) -> Transform:  # noqa: ARG002 - `fit` has refused all but counts
        """Scale to the unit interval, and learn the order of the genes."""
        return self._laid_out(ScaleToUnit())

    def _laid_out(self, inner: Transform) -> Transform:
        return inner if self.order == "given" else Ordered(inner, self.order)

    def build(self, schema: Schema) -> VAE:
        """Join the parts into a model for these genes and covariates, with fresh weights."""
        activation = ACTIVATIONS[self.activation]
        layout, one_hot = self._layout(schema), self._one_hot(schema)
        decoder = ImageDecoder(layout, one_hot, self.n_latent, self.filters, self.kernel, activation)
        return VAE(
            self._posterior(schema, self.n_latent),
            self._prior(schema),
            self.image_likelihood(decoder, schema),
            self._learned_size(schema) if self.size == "learned" else None,
        )

    def image_likelihood(self, decoder: ImageDecoder, schema: Schema) -> nn.Module:  # noqa: ARG002 - as its variant's
        """Make p(x | z, c)."""
        return ImageNormalLikelihood(decoder)

    def _posterior(self, schema: Schema, n_latent: int) -> ImagePosterior:  # type: ignore[override]
        return ImagePosterior(
            self._layout(schema),
            self._one_hot(schema) if self.encode_condition else OneHot({}),
            self.filters,
            self.kernel,
            self.hidden,
            n_latent,
            self._style(self.dropout),
            type(self).enter,
            schema.missing,
        )

    def _one_hot(self, schema: Schema) -> OneHot:
        return OneHot(schema.n_codes, [c.name for c in schema.continuous], schema.parts)

    def _layout(self, schema: Schema) -> Layout:
        """Give every gene its pixel."""
        n_genes = len(schema.genes)
        side = self.image_size or smallest_side(n_genes)
        if side**2 < n_genes:
            raise RecipeError(
                f"An image of {side} × {side} pixels holds {side**2:,} genes, and there are {n_genes:,}. Give an "
                f"image_size of {smallest_side(n_genes)} or more, leave it out, or choose fewer genes (--genes)."
            )
        place_g = torch.arange(n_genes)
        if isinstance(schema.transform, Ordered):
            place_g[schema.transform.order_g] = torch.from_numpy(curve(side)[:n_genes])
        return Layout(place_g, side)


@dataclass(frozen=True, kw_only=True)
class ConvolutionalNB(Convolutional):
    """The same convolutions over log counts, with a negative binomial of each gene's share of the cell's counts."""

    enter: ClassVar[Callable[[Tensor], Tensor]] = torch.log1p

    reconstruction_weight: float = 1.0

    def transform(self, kind: Kind) -> Transform:  # noqa: ARG002 - `fit` has refused all but counts
        """Leave counts as they are, and learn the order of the genes."""
        return self._laid_out(AsIs())

    def image_likelihood(self, decoder: ImageDecoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        n_genes = len(schema.genes)
        return ImageNegativeBinomialLikelihood(decoder, n_genes, PerGene(n_genes))
