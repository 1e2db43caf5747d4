"""What evaluation needs of a model: a few facts, and any of eight verbs.

A model of any library is evaluated as an object that has ``genes`` and one verb or more. A section of the report that
needs a verb which a model lacks leaves that model out, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import ExpressionRows
from genevae.data.covariates import Categorical
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.distributions import ExpressionDistribution
from genevae.errors import DataError, shorten

__all__ = ["VERBS", "Decoded", "EvaluatedModel", "Model", "ShiftInterval", "from_protocol"]

Numbers = NDArray[Any]

VERBS = ("embed", "log_weights", "likelihoods", "denoise", "generate", "counterfactual", "classify", "gene_embeddings")
"""All that a model may be able to do."""
N_LATENT = 10


class Decoded(NamedTuple):
    """A minibatch of cells, and what a model says of them: p(x | z) for draws of z from each cell's posterior.

    Parameters
    ----------
    x
        Expression as the model sees it.
    size_n1
        Counts per cell.
    p
        The likelihood, draws × cells × genes.
    measured_ng
        Which genes of which cells were measured; all of them where it is None.
    """

    x: ExpressionRows
    size_n1: Tensor
    p: ExpressionDistribution
    measured_ng: Tensor | None = None


class ShiftInterval(NamedTuple):
    """The interval of a predicted shift of mean log-normalised expression, and what the prediction is made of.

    Parameters
    ----------
    lower_g, upper_g
        The ends of the 90 % interval; NaN where the model knows none.
    members
        The weight of each member of the answer.
    """

    lower_g: Numbers
    upper_g: Numbers
    members: Mapping[str, float]


class Model(Protocol):
    """What a model of any library needs to be evaluated: its genes, and one of the verbs or more.

    Facts that it may have besides (an attribute that is absent takes the default):

    ``kind``
        What the numbers are that it reads and returns: "counts" (the default), "log-normalised", …
    ``fields``
        The categories of each obs column that it is conditioned on, by name.
    ``control``
        For perturbation columns among those, the level that is the control.
    ``batch``
        Which of those columns is the technical batch.
    ``split``
        For each cell of its training its part: training, validation or test. All cells count as new without it.
    ``n_latent``
        The dimensions of its latent.
    ``labels``
        For each obs column that ``classify`` predicts, its categories.
    ``facts``
        What the report says of it, by name.

    Verbs, each of which it may have:

    ``embed(cells)``
        The place of every cell in the latent, cells × latent.
    ``log_weights(cells, n_draws, seed)``
        log p(x, z) − log q(z | x) of draws of z from q, draws × cells: what bounds on log p(x) are computed from.
    ``likelihoods(cells, n_draws, seed)``
        An iterator of :class:`Decoded`.
    ``denoise(cells, n_draws, seed)``
        Expected expression of every cell, cells × genes.
    ``generate(n, condition, seed)``
        New cells of one condition, n × genes.
    ``counterfactual(cells, condition, seed)``
        The same cells in another condition, cells × genes.
    ``classify(cells, field, seed)``
        A table with ``label`` and ``probability`` of every cell, and perhaps ``set`` (plausible labels, joined by
        " | ") and ``unknown`` (high for cells unlike all labels).
    ``gene_embeddings()``
        A vector for every gene, by name.

    Cells are AnnData with the model's genes in its order. Columns of obs hold its fields.
    """

    @property
    def genes(self) -> Sequence[str]:
        """The genes that it models, in its order."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluatedModel:
    """A model as the sections of a report see it; a verb that it lacks is None.

    Parameters
    ----------
    schema
        Its genes, what the numbers are that it sees and returns, and the obs columns that it is conditioned on.
    split
        The part of every cell of its training, by name.
    contents
        A hash of the expression of each of these cells (:func:`~genevae.data.contents.contents_of`), where it is known.
    n_latent
        The dimensions of its latent.
    given
        Fields that it knows when it places a cell in the latent.
    in_latent
        Fields that have a part of the latent by design.
    labels
        The categories of every field that it can predict.
    facts, history, best_epoch, ended
        What the report says of it, and of its training.
    card, methods
        A model card, by topic, and a paragraph for the methods section of a paper.
    was_trained_on
        Whether training cells had a combination of categories; where it is None, the cells at hand decide.
    embed, log_weights, likelihoods, denoise, generate, counterfactual, classify, gene_embeddings
        As in :class:`Model`.
    answer
        As ``counterfactual``, with the interval of the predicted shift.
    training_profiles
        For a field and the field of its contexts, the mean of all training cells of each context and level, in the
        units of answers on a log scale.
    """

    schema: Schema
    split: pd.Series[str] = field(default_factory=lambda: pd.Series(dtype=str), repr=False)
    contents: pd.Series[str] = field(default_factory=lambda: pd.Series(dtype=object), repr=False)
    n_latent: int = N_LATENT
    given: tuple[str, ...] = ()
    in_latent: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, str] = field(default_factory=dict)
    methods: str = ""
    history: pd.DataFrame | None = None
    best_epoch: int = 0
    ended: str = ""
    was_trained_on: Callable[[Mapping[str, str]], bool] | None = None
    embed: Callable[[AnnData], Numbers] | None = None
    log_weights: Callable[[AnnData, int, int], Numbers | None] | None = None
    likelihoods: Callable[[AnnData, int, int], Iterator[Decoded]] | None = None
    denoise: Callable[[AnnData, int, int], Numbers] | None = None
    generate: Callable[[int, Mapping[str, str], int], Numbers] | None = None
    counterfactual: Callable[[AnnData, Mapping[str, str], int], Numbers] | None = None
    classify: Callable[[AnnData, str, int], pd.DataFrame] | None = None
    gene_embeddings: Callable[[], Mapping[str, Numbers]] | None = None
    answer: Callable[[AnnData, Mapping[str, str], int], tuple[Numbers, ShiftInterval]] | None = None
    training_profiles: Callable[[str, str], Mapping[tuple[str, str], Numbers]] | None = None

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that it has."""
        return tuple(name for name in VERBS if getattr(self, name) is not None)


def from_protocol(model: Any) -> EvaluatedModel:
    """Read the facts and verbs of an object that follows :class:`Model`.

    Raises
    ------
    DataError
        If it has no genes, or no verb.
    """
    verbs: dict[str, Any] = {name: getattr(model, name) for name in VERBS if callable(getattr(model, name, None))}
    if not verbs or not hasattr(model, "genes"):
        raise DataError(
            f"An object of type {type(model).__name__} cannot be evaluated: a model needs `genes`, and one of the "
            f"methods {shorten(list(VERBS), len(VERBS))}. For a model of scvi-tools, give gv.adapters.scvi(model)."
        )
    genes = tuple(map(str, model.genes))
    control, batch = getattr(model, "control", {}), getattr(model, "batch", None)
    categorical = tuple(
        Categorical(name, tuple(map(str, categories)), control.get(name), name == batch)
        for name, categories in getattr(model, "fields", {}).items()
    )
    for name in ("embed", "denoise", "counterfactual", "classify", "likelihoods", "log_weights"):
        if name in verbs:
            verbs[name] = _with_genes(verbs[name], genes)
    return EvaluatedModel(
        schema=Schema(genes, Kind(getattr(model, "kind", Kind.COUNTS)), categorical=categorical),
        split=getattr(model, "split", pd.Series(dtype=str)),
        n_latent=int(getattr(model, "n_latent", N_LATENT)),
        given=tuple(c.name for c in categorical),
        labels={name: tuple(map(str, each)) for name, each in getattr(model, "labels", {}).items()},
        facts={"Recipe": type(model).__name__, "Genes": f"{len(genes):,}", **getattr(model, "facts", {})},
        **verbs,
    )


def _with_genes(verb: Callable[..., Any], genes: Sequence[str]) -> Callable[..., Any]:
    """Give a verb the genes of its model alone, in its order."""

    def of_its_genes(cells: AnnData, *arguments: Any) -> Any:
        return verb(cells[:, list(genes)].copy(), *arguments)

    return of_its_genes


def dense(x: Any) -> Numbers:
    """Return an array."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)
