"""System D: a conditional VAE of genes laid out as an image, which simulates count matrices per cell type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

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
from genevae.nn.mlp import ACTIVATIONS, identity
from genevae.nn.one_hot import OneHot
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Bound
from genevae.recipes.recipe import Recipe
from genevae.recipes.vae import VAESettings
from genevae.training.settings import Training, setting

__all__ = ["CONVOLUTIONAL", "CONVOLUTIONAL_NB", "ImageCounts", "ImageIntensities", "ImageModel"]


class Pixels(Protocol):
    """What the pixels of an image are."""

    @property
    def input_function(self) -> Callable[[Tensor], Tensor]:
        """The function of expression that enters the posterior."""

    def transform(self) -> Transform:
        """Return the transform of counts into what the model sees."""

    def likelihood(self, decoder: ImageDecoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""


@dataclass(frozen=True)
class ImageIntensities:
    """Counts scaled to 0–1 per gene, with a squared error."""

    @property
    def input_function(self) -> Callable[[Tensor], Tensor]:
        """The function of expression that enters the posterior."""
        return identity

    def transform(self) -> Transform:
        """Scale to the unit interval."""
        return ScaleToUnit()

    def likelihood(self, decoder: ImageDecoder, schema: Schema) -> nn.Module:  # noqa: ARG002 - the protocol's signature
        """Make p(x | z, c)."""
        return ImageNormalLikelihood(decoder)


@dataclass(frozen=True)
class ImageCounts:
    """Log counts, with a negative binomial of each gene's share of the cell's counts."""

    @property
    def input_function(self) -> Callable[[Tensor], Tensor]:
        """The function of expression that enters the posterior."""
        return torch.log1p

    def transform(self) -> Transform:
        """Keep counts."""
        return AsIs()

    def likelihood(self, decoder: ImageDecoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        n_genes = len(schema.genes)
        return ImageNegativeBinomialLikelihood(decoder, n_genes, PerGene(n_genes))


@dataclass(frozen=True, kw_only=True)
class ImageModel(VAESettings):
    """Settings of a convolutional CVAE: genes as a square image.

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
    pixels
        What the pixels are.
    image_size
        Side of the image, in pixels; by default that of the smallest image that holds the genes.
    order
        How genes are laid out: by mean expression or by similarity of their correlations, along a curve that keeps
        neighbours close; or as given, row by row.
    filters, kernel
        Channels that each convolution of stride two makes, and the side of its kernel, odd. Transposed convolutions
        mirror them.
    hidden
        Width of each dense layer between the convolutions and the latent.
    """

    takes_vectors: ClassVar[bool] = False

    pixels: Pixels = ImageIntensities()
    image_size: int | None = setting(None, at_least=1)
    order: Literal["expression", "correlation", "given"] = "correlation"
    filters: tuple[int, ...] = setting((16, 32), at_least=1, required=True)
    kernel: int = setting(3, at_least=1)

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise RecipeError(f"kernel must be odd, such as 3, not {self.kernel}.")

    @property
    def input_function(self) -> Callable[[Tensor], Tensor]:
        """The function of expression that enters the posterior."""
        return self.pixels.input_function

    def transform(self, kind: Kind) -> Transform:  # noqa: ARG002 - counts are the only values here
        """Return the transform of the pixels, and learn the order of the genes."""
        inner = self.pixels.transform()
        return inner if self.order == "given" else Ordered(inner, self.order)

    def build(self, schema: Schema, masked: bool) -> VAE:
        """Make the model for these genes and covariates, with fresh weights."""
        learns_missing = schema.missing or masked
        layout, one_hot = self._layout(schema), self._one_hot(schema)
        activation = ACTIVATIONS[self.activation]
        decoder = ImageDecoder(
            layout, one_hot, self.n_latent, self.filters, self.kernel, activation, self.decoder_dropout
        )
        posterior = self.posterior(schema, self.n_latent, learns_missing)
        return VAE(
            posterior,
            self.prior_module(schema, posterior),
            self.pixels.likelihood(decoder, schema),
            self.learned_size(schema, learns_missing),
        )

    def posterior(self, schema: Schema, n_latent: int, learns_missing: bool) -> nn.Module:
        """Make q(z | x, c)."""
        return ImagePosterior(
            self._layout(schema),
            self._one_hot(schema) if self.encode_condition else OneHot({}),
            self.filters,
            self.kernel,
            self.hidden,
            n_latent,
            self.style(self.dropout),
            self.input_function,
            learns_missing,
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


CONVOLUTIONAL = Recipe(
    name="convolutional",
    description=DESCRIPTIONS["convolutional"],
    model=ImageModel(n_latent=2, hidden=(16,), norm="none", dropout=0.0),
    # With a weight of 1, squared errors of numbers from 0 to 1 are so small beside the KL that the latent may collapse.
    objective=Bound(reconstruction_weight=100.0),
    training=Training(batch_size=32, learning_rate=3e-3),
)
CONVOLUTIONAL_NB = Recipe(
    name="convolutional-nb",
    description=DESCRIPTIONS["convolutional-nb"],
    model=ImageModel(pixels=ImageCounts(), n_latent=2, hidden=(16,), norm="none", dropout=0.0),
    objective=Bound(reconstruction_weight=1.0),
    training=Training(batch_size=32, learning_rate=3e-3),
)
