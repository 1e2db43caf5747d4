"""What the models of most recipes share: a posterior, a prior, a decoder, and how they are conditioned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genevae.data.nesting import one_way
from genevae.data.schema import Schema
from genevae.data.transforms.transform import AsIs, Transform
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError
from genevae.models.likelihoods import Decoder
from genevae.models.posterior import MLPPosterior
from genevae.models.prior import ConditionalNormalPrior, FlowPrior, MixturePrior, StandardNormalPrior, VampPrior
from genevae.models.size import LearnedSize
from genevae.models.vae import VAE
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import ACTIVATIONS, NORMS, LayerStyle
from genevae.training.settings import check, setting

__all__ = ["Activation", "Norm", "VAESettings"]

Activation = Literal["relu", "elu", "gelu", "silu", "leaky_relu", "tanh"]
Norm = Literal["batch", "layer", "none"]


@dataclass(frozen=True, kw_only=True)
class VAESettings:
    """Settings of a conditional VAE; a subclass adds the likelihood.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    hidden
        Width of each hidden layer of the posterior; the likelihood has them in reverse.
    activation, norm, dropout
        After each hidden layer of both; the dropout is the posterior's.
    decoder_dropout
        Dropout after each hidden layer of the likelihood.
    embedding_widths
        Width of the embedding of each condition, in the order of the conditions; where it is shorter, one per category
        up to 16.
    encode_condition
        Whether the posterior sees the condition, as the likelihood does.
    pool_nested
        Whether the embedding of a condition that is nested in another, such as the experiments of a perturbation, is
        its deviation from the mean within the other's category.
    prior
        Standard normal; a normal that depends on the condition; a mixture of normals; a mixture of the posteriors of
        pseudo-inputs (VampPrior); or a flow of couplings.
    prior_components
        Components of a mixture, or pseudo-inputs.
    size
        Whether a cell's size is its observed counts, or a latent to be learned.
    """

    needs_counts: ClassVar[bool] = True
    """Whether the likelihood is one of counts."""
    needs_unknown: ClassVar[bool] = False
    """Whether a cell's categories may be unknown even where training replaces none."""

    takes_vectors: ClassVar[bool] = True
    """Whether categories may be known by a vector of an embedding file."""

    n_latent: int = setting(10, at_least=1)
    hidden: tuple[int, ...] = setting((128,), at_least=1, required=True)
    activation: Activation = "relu"
    norm: Norm = "batch"
    dropout: float = setting(0.1, at_least=0, below=1)
    decoder_dropout: float = setting(0.0, at_least=0, below=1)
    embedding_widths: tuple[int, ...] = setting((), at_least=1)
    encode_condition: bool = True
    pool_nested: bool = False
    prior: Literal["standard", "conditional", "mixture", "vamp", "flow"] = "standard"
    prior_components: int = setting(50, at_least=1)
    size: Literal["observed", "learned"] = "observed"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    @property
    def input_function(self) -> Callable[[Tensor], Tensor]:
        """The function of expression that enters the posterior."""
        return torch.log1p

    def transform(self, kind: Kind) -> Transform:  # noqa: ARG002 - counts are the only values here
        """Return the transform of such values into what the model sees: none, for counts."""
        return AsIs()

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        raise NotImplementedError

    def build(self, schema: Schema, masked: bool) -> VAE:
        """Make the model for these genes and covariates, with fresh weights.

        Parameters
        ----------
        schema
            Genes and covariates.
        masked
            Whether training masks entries, so that genes may be missing.
        """
        learns_missing = schema.missing or (masked and not self.has_zero_mean)
        style = self.style(self.decoder_dropout)
        decoder = Decoder(self.n_latent, self.conditioning(schema), self.decoder_hidden, style)
        posterior = self.posterior(schema, self.n_latent, learns_missing)
        return VAE(
            posterior,
            self.prior_module(schema, posterior),
            self.likelihood(decoder, schema),
            self.learned_size(schema, learns_missing),
        )

    @property
    def decoder_hidden(self) -> tuple[int, ...]:
        """Width of each hidden layer of the likelihood."""
        return self.hidden[::-1]

    @property
    def has_zero_mean(self) -> bool:
        """Whether each gene has mean zero, so that zero stands for a missing value."""
        return False

    def style(self, dropout: float) -> LayerStyle:
        """Return what follows each linear layer."""
        return LayerStyle(NORMS[self.norm], ACTIVATIONS[self.activation], dropout)

    def conditioning(self, schema: Schema) -> Conditioning:
        """Make a vector of the condition."""
        continuous = [c.name for c in schema.continuous]
        outer: dict[str, list[tuple[int, ...]]] = {}
        for nesting in one_way(schema.nested) if self.pool_nested else ():
            outer.setdefault(nesting.inner, []).append(nesting.outer_c)
        return Conditioning(schema.n_codes, continuous, self.embedding_widths, schema.parts, outer, schema.vectors)

    def posterior(self, schema: Schema, n_latent: int, learns_missing: bool) -> nn.Module:
        """Make q(z | x, c)."""
        conditioning = self.conditioning(schema) if self.encode_condition else Conditioning({})
        style = self.style(self.dropout)
        return MLPPosterior(
            len(schema.genes), conditioning, self.hidden, n_latent, style, self.input_function, learns_missing
        )

    def prior_module(self, schema: Schema, posterior: nn.Module) -> nn.Module:
        """Make p(z | c)."""
        if self.prior == "mixture":
            return MixturePrior(self.prior_components, self.n_latent)
        if self.prior == "vamp":
            if not isinstance(posterior, MLPPosterior):
                raise RecipeError(
                    "prior=vamp needs a posterior of dense layers, which this recipe has not. Use prior=mixture."
                )
            return VampPrior(self.prior_components, posterior)
        if self.prior == "flow":
            if self.n_latent < 2:
                raise RecipeError("prior=flow needs two latent dimensions or more (--n-latent). Use prior=mixture.")
            return FlowPrior(self.n_latent)
        if self.prior == "standard" or not schema.fields:
            return StandardNormalPrior(self.n_latent)
        return ConditionalNormalPrior(self.conditioning(schema), self.hidden[-1:], self.n_latent, self.style(0.0))

    def learned_size(self, schema: Schema, learns_missing: bool) -> LearnedSize | None:
        """Make the latent size, where the size is not observed."""
        if self.size == "observed":
            return None
        n_batches = schema.n_codes[schema.batch] if schema.batch else 1
        posterior = self.posterior(schema, 1, learns_missing)
        return LearnedSize(posterior, torch.zeros(n_batches), torch.ones(n_batches), schema.batch)
