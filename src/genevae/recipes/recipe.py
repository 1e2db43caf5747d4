"""What all recipes share: their settings, and how they join parts into a model."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genevae.data.sampler import InOrder, Sampler, Shuffled
from genevae.data.schema import Schema
from genevae.data.transforms.transform import AsIs, Transform
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError, nearest
from genevae.models.likelihoods import Decoder
from genevae.models.posterior import MLPPosterior
from genevae.models.prior import ConditionalNormalPrior, StandardNormalPrior
from genevae.models.size import LearnedSize
from genevae.models.vae import VAE
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import ACTIVATIONS, NORMS, LayerStyle
from genevae.objectives.elbo import ELBO
from genevae.objectives.masking import CategoryDropout, GeneMask
from genevae.objectives.objective import Objective
from genevae.objectives.schedules import Cyclic, Ramp, Schedule
from genevae.training.settings import Training

__all__ = ["Recipe"]

RowNumbers = NDArray[np.int64]
Weights = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Recipe(Training):
    """A choice of parts, one objective, and their numbers; those of training are its own too.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    hidden
        Width of each hidden layer of the posterior; the likelihood's are the same, the other way round.
    activation, norm, dropout
        What follows each hidden layer of both; the likelihood has no dropout.
    embedding_widths
        Width of the embedding of each condition, in the order the conditions were given; where it is shorter, one per
        category up to 16.
    encode_condition
        Whether the posterior is given the condition, as the likelihood is.
    prior
        Standard normal, or a normal that depends on the condition.
    size
        Whether a cell's size is its observed counts, or a latent to be learned.
    beta, beta_schedule, beta_ramp
        Weight of the KL term; how it rises to that from zero (linear, cosine, exponential, or cyclic); and the share of
        training, or of each cycle, over which it does.
    beta_cycle, beta_decay
        Epochs in a cycle, and the peak of a cycle over that of the one before it.
    category_dropout
        Share of the cells whose category is called unknown in a step, for each condition; above zero, the model can be
        asked about cells whose category is not known.
    reconstruction_weight
        Weight of the log-likelihood.
    """

    needs_counts: ClassVar[bool] = True
    needs_unknown: ClassVar[bool] = False
    """Whether a cell's categories may be unknown even where training hides none."""
    enter: ClassVar[Callable[[Tensor], Tensor]] = torch.log1p
    """What is done to expression where it enters the posterior."""

    n_latent: int = 10
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    norm: str = "batch"
    dropout: float = 0.1
    embedding_widths: tuple[int, ...] = ()
    encode_condition: bool = True
    prior: Literal["standard", "conditional"] = "standard"
    size: Literal["observed", "learned"] = "observed"
    beta: float = 1.0
    beta_schedule: Literal["linear", "cosine", "exponential", "cyclic"] = "linear"
    beta_ramp: float = 0.25
    beta_cycle: int = 40
    beta_decay: float = 1.0
    category_dropout: float = 0.0
    reconstruction_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that no model can use."""
        super().__post_init__()
        for name, valid in self._choices().items():
            if getattr(self, name) not in valid:
                raise RecipeError(f"{name} cannot be '{getattr(self, name)}'. {nearest(getattr(self, name), valid)}")
        if not self.hidden or min(self.hidden) < 1 or self.n_latent < 1:
            raise RecipeError(f"Layers need one unit at least, not hidden={self.hidden}, n_latent={self.n_latent}.")
        self._require_shares()
        for name in ("beta", "reconstruction_weight"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"{name} must be 0 or more, not {getattr(self, name)}.")
        for name in ("embedding_widths", "beta_cycle"):
            if np.min(getattr(self, name), initial=1) < 1:
                raise RecipeError(f"{name} must be 1 or more, not {getattr(self, name)}.")

    def _require_shares(self) -> None:
        """Refuse shares that are none."""
        for name in ("dropout", "category_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"{name} must be from 0 to below 1, not {getattr(self, name)}.")
        if not 0 <= self.beta_ramp <= 1:
            raise RecipeError(f"beta_ramp is a share, from 0 to 1, and cannot be {self.beta_ramp}.")
        if not 0 < self.beta_decay <= 1:
            raise RecipeError(f"beta_decay must be above 0 and up to 1, not {self.beta_decay}.")

    def _choices(self) -> dict[str, tuple[str, ...]]:
        """Return the valid words of every setting that is a word."""
        hints = typing.get_type_hints(type(self))
        words = {name: typing.get_args(hint) for name, hint in hints.items() if typing.get_origin(hint) is Literal}
        return {**words, "activation": tuple(ACTIVATIONS), "norm": tuple(NORMS)}

    def edit(self, settings: Mapping[str, Any]) -> Self:
        """Return this recipe with other settings.

        Raises
        ------
        RecipeError
            If a setting is unknown, or not of its type.
        """
        hints = typing.get_type_hints(type(self))
        names = [field.name for field in fields(self)]
        for name in settings:
            if name not in names:
                raise RecipeError(f"This recipe has no setting '{name}'. {nearest(name, names)}")
        return replace(self, **{name: _cast(name, value, hints[name]) for name, value in settings.items()})

    def to_json(self) -> dict[str, Any]:
        """Write the settings down."""
        return asdict(self)

    def transform(self, kind: Kind) -> Transform:  # noqa: ARG002 - `fit` has refused all but counts
        """Choose what is done to such numbers before the model sees them: nothing, to counts."""
        return AsIs()

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        raise NotImplementedError

    def objective(self, schema: Schema, n_epochs: int) -> Objective:
        """Make what training makes small."""
        return self.elbo(schema, n_epochs)

    def elbo(self, schema: Schema, n_epochs: int, mask: GeneMask | None = None) -> ELBO:
        """Make the bound, with its weights and with what is hidden in training."""
        dropout = CategoryDropout(self.category_dropout, schema.unknown) if schema.unknown else None
        return ELBO(self.beta_over(n_epochs), self.reconstruction_weight, mask=mask, dropout=dropout)

    def beta_over(self, n_epochs: int) -> Schedule:
        """Make the schedule of β."""
        if self.beta_schedule == "cyclic":
            return Cyclic(self.beta, max(1, round(n_epochs / self.beta_cycle)), self.beta_decay, self.beta_ramp)
        return Ramp(self.beta, self.beta_ramp, self.beta_schedule)

    def training_sampler(
        self,
        rows: RowNumbers,
        group_n: RowNumbers | None,  # noqa: ARG002
        weights: Weights | None,
        seed: int,
    ) -> Sampler:
        """Make the order of the training cells; ``group_n`` are the groups of all cells, where a group was named."""
        return Shuffled(rows, self.batch_size, seed, weights=weights, n_cells_per_epoch=self.cells_per_epoch)

    def validation_sampler(self, rows: RowNumbers, group_n: RowNumbers | None, seed: int) -> Sampler:  # noqa: ARG002
        """Make the order of the cells that validate."""
        return InOrder(rows, 512)

    def build(self, schema: Schema) -> VAE:
        """Join the parts into a model for these genes and covariates, with fresh weights."""
        decoder = Decoder(self.n_latent, self._conditioning(schema), self.hidden[::-1], self._style(dropout=0.0))
        return VAE(
            self._posterior(schema, self.n_latent),
            self._prior(schema),
            self.likelihood(decoder, schema),
            self._learned_size(schema) if self.size == "learned" else None,
        )

    def _style(self, dropout: float) -> LayerStyle:
        return LayerStyle(NORMS[self.norm], ACTIVATIONS[self.activation], dropout)

    def _conditioning(self, schema: Schema) -> Conditioning:
        continuous = [c.name for c in schema.continuous]
        return Conditioning(schema.n_codes, continuous, self.embedding_widths, schema.parts)

    def _posterior(self, schema: Schema, n_latent: int) -> MLPPosterior:
        conditioning = self._conditioning(schema) if self.encode_condition else Conditioning({})
        style = self._style(self.dropout)
        enter = type(self).enter
        return MLPPosterior(len(schema.genes), conditioning, self.hidden, n_latent, style, enter, schema.missing)

    def _prior(self, schema: Schema) -> nn.Module:
        if self.prior == "standard" or not schema.fields:
            return StandardNormalPrior(self.n_latent)
        return ConditionalNormalPrior(self._conditioning(schema), self.hidden[-1:], self.n_latent, self._style(0.0))

    def _learned_size(self, schema: Schema) -> LearnedSize:
        n_batches = schema.n_codes[schema.batch] if schema.batch else 1
        return LearnedSize(self._posterior(schema, 1), torch.zeros(n_batches), torch.ones(n_batches), schema.batch)


def _cast(name: str, value: Any, hint: Any) -> Any:
    """Make a value, perhaps from a text or a JSON list, one of the type that a setting has."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = next(k for k in kinds if k is not type(None))
    try:
        return _READERS.get(kind, lambda v: v)(value)
    except (TypeError, ValueError):
        raise RecipeError(f"The setting {name} cannot be '{value}': it is {getattr(kind, '__name__', kind)}.") from None


def _read_bool(value: Any) -> bool:
    words = {"true": True, "false": False}
    if str(value).casefold() not in words:
        raise ValueError(value)
    return words[str(value).casefold()]


def _read_int(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError(value)
    return int(value)


def _read_widths(value: Any) -> tuple[int, ...]:
    parts = value.replace(" ", "").split(",") if isinstance(value, str) else value
    return tuple(map(_read_int, parts))


_READERS: dict[Any, Callable[[Any], Any]] = {
    int: _read_int,
    float: float,
    bool: _read_bool,
    tuple[int, ...]: _read_widths,
}
