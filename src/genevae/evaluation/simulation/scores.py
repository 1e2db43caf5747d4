"""How similar simulated cells are to real ones: every score, and what they say in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.metrics.distances import SIMULATED_MMD, median_distance, mmd
from genevae.metrics.metric import Metric
from genevae.metrics.neighbourhoods import SIMULATED_MIXING, lisi_n, nearest_cells
from genevae.metrics.principal import Principal
from genevae.metrics.simulation import (
    FOREST_AUC,
    MEMBERSHIP_AUROC,
    MEMORISATION,
    NEIGHBOUR_ACCURACY,
    PROPERTY_DISTANCES,
    TYPE_CORRELATION,
    TYPE_SLOPE,
    common_genes,
    fold_changes,
    ks_distance,
    line,
    membership_auroc,
    memorisation,
    neighbour_accuracy,
    properties,
    two_sample_auc,
)
from genevae.report.records import Role, Score, Tone, Verdict

__all__ = ["MIN_OF_TYPE", "Group", "Likeness", "Simulated", "scores_of", "verdicts_of"]

N_AXES = 50
N_TREES = 100
N_NEAR = 91
"""The nearest cells of each, itself among them: three times the perplexity of 30."""
MIN_OF_TYPE = 20
"""Cells of a type at least, for its mean to be more than noise."""
GOOD_AUC, FAIR_AUC = 0.6, 0.75
COPIED, FAR = 0.7, 1.4
"""Ratios of distances that call for a warning."""

Values = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Likeness:
    """Real cells, and what others are compared with them in.

    Parameters
    ----------
    real_ng
        Log-normalised, sorted by combination of conditions, as the simulated cells are.
    properties
        Of :func:`~genevae.metrics.simulation.properties`.
    has_counts
        Whether there are counts.
    type_n
        A category of each, to compare differences between types; None where there is no such field.
    training_ng
        Training cells.
    space
        Their principal components.
    genes
        Places of the genes whose correlations count.
    seed
        Of the forest.
    """

    real_ng: Values
    properties: Mapping[str, Values]
    has_counts: bool
    type_n: NDArray[Any] | None
    training_ng: Values
    space: Principal
    genes: NDArray[np.int64]
    seed: int

    @classmethod
    def of(
        cls, real_ng: Values, counts_ng: Values | None, training_ng: Values, type_n: NDArray[Any] | None, seed: int
    ) -> Likeness:
        """Fit the space to training cells, and take the properties of real ones."""
        space, genes = Principal.fit(training_ng, N_AXES, seed), common_genes(real_ng)
        known = properties(real_ng, counts_ng, genes)
        return cls(real_ng, known, counts_ng is not None, type_n, training_ng, space, genes, seed)

    @cached_property
    def training_nk(self) -> Values:
        """Where training cells lie in the space."""
        return self.space.embed(self.training_ng)


@dataclass(frozen=True, eq=False)
class Simulated:
    """Simulated cells, on a log scale, and their counts where they have any."""

    who: str
    role: Role
    to: Likeness
    x_ng: Values
    counts_ng: Values | None

    @cached_property
    def properties(self) -> Mapping[str, Values]:
        """Return what is compared with the real cells."""
        return properties(self.x_ng, self.counts_ng, self.to.genes)

    @cached_property
    def scores(self) -> dict[Metric, float]:
        """Every score."""
        real, made = (self.to.space.embed(x) for x in (self.to.real_ng, self.x_ng))
        source = np.repeat([0, 1], [len(real), len(made)])
        near = nearest_cells(np.concatenate([real, made]), N_NEAR)
        found = {
            FOREST_AUC: two_sample_auc(self.to.real_ng, self.x_ng, self.to.seed, N_TREES),
            NEIGHBOUR_ACCURACY: neighbour_accuracy(near, source),
            SIMULATED_MIXING: float(lisi_n(near, source).mean()),
            SIMULATED_MMD: mmd(real, made, median_distance(real)),
            MEMORISATION: memorisation(made, real, self.to.training_nk),
            MEMBERSHIP_AUROC: self._membership(),
        }
        if self.to.type_n is not None:
            fit = line(*(fold_changes(x, self.to.type_n, MIN_OF_TYPE) for x in (self.to.real_ng, self.x_ng)))
            found |= {TYPE_SLOPE: fit.slope, TYPE_CORRELATION: fit.correlation}
        known = self.to.properties
        return found | {PROPERTY_DISTANCES[name]: ks_distance(known[name], self.properties[name]) for name in known}

    def _membership(self) -> float:
        """Compare distances of training and held-out cells in components of the simulated ones.

        Training cells lie farther out than others in components that were fitted to them.
        """
        space = Principal.fit(self.x_ng, N_AXES, self.to.seed)
        return membership_auroc(*(space.embed(x_ng) for x_ng in (self.x_ng, self.to.real_ng, self.to.training_ng)))


@dataclass(frozen=True, eq=False)
class Group:
    """Simulated cells of models of the same units, the baselines, and the real cells.

    Parameters
    ----------
    genes
        Names.
    likeness
        The real cells.
    made
        The models', the baselines' and the training cells.
    """

    genes: tuple[str, ...]
    likeness: Likeness
    made: Sequence[Simulated]


def scores_of(group: Group) -> Iterator[Score]:
    """Yield every score, by metric."""
    for metric in dict.fromkeys(metric for made in group.made for metric in made.scores):
        for made in group.made:
            yield Score.of_metric(metric, made.who, made.scores[metric], made.role)


def verdicts_of(group: Group) -> Iterator[Verdict]:
    """Say of each model whether its cells are recognised, are copies, and differ between types as real ones do."""
    ceiling = next(made for made in group.made if made.role == "ceiling").scores
    for made in group.made:
        if made.role == "run":
            baselines = [other.scores[FOREST_AUC] for other in group.made if other.role == "baseline"]
            yield _recognised(made, ceiling[FOREST_AUC], min(baselines))
            yield _copied(made)
            if TYPE_SLOPE in made.scores:
                yield _differing(made, ceiling[TYPE_SLOPE])


def _recognised(made: Simulated, ceiling: float, baseline: float) -> Verdict:
    auc = made.scores[FOREST_AUC]
    how = "hardly distinguishes" if auc <= GOOD_AUC else "often distinguishes" if auc <= FAIR_AUC else "distinguishes"
    text = (
        f"A random forest {how} the cells that {made.who} simulates from real ones: AUC {auc:.2f}, 0.5 being chance "
        f"(training cells {ceiling:.2f}, the best baseline {baseline:.2f})."
    )
    tone: Tone = "good" if auc <= GOOD_AUC else "mixed" if auc <= FAIR_AUC and auc < baseline else "bad"
    advice = "its simulated cells are no stand-in for real ones" if tone == "bad" else ""
    return Verdict(text, tone, made.who, f"AUC {auc:.2f} (real cells {ceiling:.2f})", advice)


def _copied(made: Simulated) -> Verdict:
    ratio = made.scores[MEMORISATION]
    text = f"Cells that {made.who} simulates lie {ratio:.2f} times as far from training cells as real cells do"
    if ratio < COPIED:
        return Verdict(f"{text}: they may be copies, or lack the noise of real cells.", "bad", made.who)
    if ratio > FAR:
        return Verdict(f"{text}: many lie where no real cell is.", "mixed", made.who)
    return Verdict(f"{text}: they are no copies.", "good", made.who)


def _differing(made: Simulated, ceiling: float) -> Verdict:
    slope = made.scores[TYPE_SLOPE]
    text = f"Between types, the cells that {made.who} simulates differ {slope:.2f} times as much as real ones"
    off = abs(slope - ceiling)
    tone: Tone = "good" if off < 0.1 else "mixed" if off < 0.3 else "bad"
    return Verdict(f"{text} (training cells {ceiling:.2f}).", tone, made.who)
