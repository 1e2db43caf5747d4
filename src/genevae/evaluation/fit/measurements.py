"""What is computed of a model and of its baselines to score how well it fits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from genevae.evaluation.model import EvaluatedModel
from genevae.evaluation.predictions import Entries, Expected, Observed, entries, expected, observed
from genevae.metrics.bound import bound, importance_weighted_bound
from genevae.metrics.gene_wise import GeneWise, GeneWiseNB, GeneWiseNormal
from genevae.metrics.sampling import subsample

__all__ = ["MAX_BOUND", "MAX_GENES", "N_PARTICLES", "Measured"]

MAX_BOUND = 300
"""Cells whose importance-weighted bound is computed, and whose intervals are checked."""
N_PARTICLES = 100
MAX_GENES = 400
"""Genes whose intervals are checked."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A model, and what is computed of it and of its baselines when it is first needed.

    Parameters
    ----------
    name, model
        The model.
    training, evaluation
        The cells that baselines are fitted to, and those that all are scored on.
    seed
        Of all random choices.
    sees, answers
        Suffixes of the names of baselines, where models see, or answer in, different numbers.
    """

    name: str
    model: EvaluatedModel
    training: AnnData
    evaluation: AnnData
    seed: int
    sees: str = ""
    answers: str = ""

    @property
    def is_count(self) -> bool:
        """Whether the model sees counts."""
        return self.model.schema.input_kind.is_count

    @property
    def base_name(self) -> str:
        """Name the gene-wise baseline."""
        return f"gene-wise {'negative binomial' if self.is_count else 'normal'}{self.sees}"

    @property
    def n_latent(self) -> int:
        """The dimensions of its latent."""
        return self.model.n_latent

    @property
    def baselines(self) -> tuple[str, str, str]:
        """Name the baselines of expectations, in brief."""
        return "no denoising", "gene mean", f"PCA, {self.n_latent} axes"

    @cached_property
    def trained(self) -> Observed:
        """The training cells, as the model sees them."""
        return observed(self.model, self.training)

    @cached_property
    def cells(self) -> Observed:
        """The evaluation cells, as the model sees them."""
        return observed(self.model, self.evaluation)

    @property
    def has_noise_model(self) -> bool:
        """Whether the model says how values scatter about what it expects."""
        return self.model.schema.has_noise_model

    @cached_property
    def top_g(self) -> NDArray[np.bool_]:
        """Which genes are the most expressed tenth, in the training cells."""
        mean_g = self.trained.true_ng.mean(0)
        return np.asarray(mean_g >= np.quantile(mean_g, 0.9))

    @cached_property
    def base(self) -> GeneWise:
        """A distribution per gene, fitted to the training cells."""
        x_ng = self.trained.x_ng
        return GeneWiseNB.fit(x_ng, self.trained.size_n) if self.is_count else GeneWiseNormal.fit(x_ng)

    @cached_property
    def expected(self) -> Expected | None:
        """What the model expects of the evaluation cells; None where it cannot say."""
        return None if self.model.likelihoods is None else expected(self.model, self.evaluation, self.seed)

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The bound and the importance-weighted bound of the first evaluation cells."""
        if self.model.log_weights is None:
            return None
        log_weight_sn = self.model.log_weights(self.evaluation[:MAX_BOUND], N_PARTICLES, self.seed)
        return None if log_weight_sn is None else (bound(log_weight_sn), importance_weighted_bound(log_weight_sn))

    @cached_property
    def base_log_prob(self) -> NDArray[np.float64]:
        """The baseline's log-probability of all evaluation cells."""
        return self.base.log_prob_n(self.cells.x_ng, self.cells.size_n)

    @cached_property
    def genes(self) -> NDArray[np.int64]:
        """The genes whose intervals are checked: a sample with the seed."""
        return subsample(np.ones(len(self.model.schema.genes)), MAX_GENES, self.seed)

    @cached_property
    def entries(self) -> Entries | None:
        """Those genes of the first evaluation cells, with their predicted distributions."""
        if self.model.likelihoods is None or not self.has_noise_model:
            return None
        return entries(self.model, self.evaluation[:MAX_BOUND], self.genes, self.seed)

    @cached_property
    def base_entries(self) -> Entries | None:
        """The same entries, with the distributions of the baseline."""
        if self.entries is None:
            return None
        x_ng, size_n, n_draws = self.entries.x_ng, self.entries.size_n, len(self.entries.sample_sng)
        base = self.base.of(self.genes)
        at_ng = base.cdf_ng(x_ng, size_n)
        below_ng = base.cdf_ng(x_ng - 1, size_n) if self.is_count else at_ng
        return Entries(x_ng, below_ng, at_ng, base.draw_sng(size_n, n_draws, self.seed), size_n)
