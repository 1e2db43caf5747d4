"""A run, and what is computed of it and of its baselines to tell how well it fits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from genevae.evaluation.predictions import Entries, Expected, Seen, entries, expected, log_weights_sn, seen
from genevae.metrics.bound import bound, importance_weighted_bound
from genevae.metrics.gene_wise import GeneWise, GeneWiseNB, GeneWiseNormal
from genevae.runs.trained import Trained

__all__ = ["MAX_BOUND", "MAX_GENES", "N_PARTICLES", "Measured"]

MAX_BOUND = 300
"""Cells whose importance-weighted bound is computed, and whose intervals are checked."""
N_PARTICLES = 100
MAX_GENES = 400
"""Genes whose intervals are checked."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A run, and what is computed of it and of its baselines once it is asked for.

    Parameters
    ----------
    name, model
        The run.
    training, judged
        The cells that baselines are fitted to, and those that all are judged by.
    seed
        Of all draws.
    sees, answers
        What follows the names of baselines of what runs see, and of what they answer, where those differ between runs.
    """

    name: str
    model: Trained
    training: AnnData
    judged: AnnData
    seed: int
    sees: str = ""
    answers: str = ""

    @property
    def is_count(self) -> bool:
        """Whether the model sees counts."""
        return self.model.schema.seen_as.is_count

    @property
    def base_name(self) -> str:
        """Name the gene-wise baseline."""
        return f"gene-wise {'negative binomial' if self.is_count else 'normal'}{self.sees}"

    @property
    def n_latent(self) -> int:
        """The dimensions of its latent."""
        return int(self.model.reference.mean_nk.shape[1])

    @property
    def baselines(self) -> tuple[str, str, str]:
        """Name the baselines of expectations, in brief."""
        return "no denoising", "gene mean", f"PCA, {self.n_latent} axes"

    @cached_property
    def trained(self) -> Seen:
        """The training cells, as the model sees them."""
        return seen(self.model, self.training)

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
    def expected(self) -> Expected:
        """What the model expects of the judged cells."""
        return expected(self.model, self.judged, self.seed)

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The bound and the importance-weighted bound of the first judged cells."""
        if not self.model.schema.knows_scatter:
            return None
        log_weight_sn = log_weights_sn(self.model, self.judged[:MAX_BOUND], N_PARTICLES, self.seed)
        return None if log_weight_sn is None else (bound(log_weight_sn), importance_weighted_bound(log_weight_sn))

    @cached_property
    def base_log_prob(self) -> NDArray[np.float64]:
        """The baseline's log-probability of all judged cells."""
        return self.base.log_prob_n(self.expected.x_ng, self.expected.size_n)

    @cached_property
    def genes(self) -> NDArray[np.int64]:
        """The genes whose intervals are checked: a sample with the seed."""
        n_genes = len(self.model.schema.genes)
        rng = np.random.default_rng(self.seed)
        return np.sort(rng.choice(n_genes, min(MAX_GENES, n_genes), replace=False))

    @cached_property
    def entries(self) -> Entries | None:
        """Those genes of the first judged cells, beside what the model says of them."""
        promised = self.model.schema.knows_scatter
        return entries(self.model, self.judged[:MAX_BOUND], self.genes, self.seed) if promised else None

    @cached_property
    def base_entries(self) -> Entries | None:
        """The same, beside what the baseline says."""
        own = self.entries
        if own is None:
            return None
        base, size_n = self.base.of(self.genes), own.size_n
        at_ng = base.cdf_ng(own.x_ng, size_n)
        below_ng = base.cdf_ng(own.x_ng - 1, size_n) if self.is_count else at_ng
        return Entries(own.x_ng, below_ng, at_ng, base.draw_sng(size_n, len(own.sample_sng), self.seed), size_n)
