"""The label of a cell: a product of simple classifiers and the model's bound, with sets that hold the true label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from genevae.labelling.logistic import Logistic, combined, member_weights
from genevae.labelling.space import N_QUANTILES, Distance, Space, neighbour_shares

__all__ = ["BOUND", "MEMBERS", "SET_LEVEL", "FieldLabels", "LabelPrediction", "Labels"]

Numbers = NDArray[np.float64]

MEMBERS = (
    "logistic regression on PCs",
    "neighbours in PCs",
    "logistic regression on PCs of standardised genes",
    "neighbours in PCs of standardised genes",
    "bound",
)
"""In the order of the weights: two of each space, and the model's bound under each label."""
BOUND = MEMBERS.index("bound")
PENALTY = (1.0, 10.0)
"""Of the logistic regression in each space."""
SET_LEVEL = 0.9
"""Share of cells whose true label is in the set, for cells like those of training."""
FLOOR = 1e-3
"""Part of each member's probability that is uniform, so that none has a veto."""
N_FOLDS = 5
PRIOR, STRENGTH = 0.3, 3.0
"""Weight of each simple member without any cells, and how strongly weights are pulled to it."""
PRIOR_OF_BOUND, STRENGTH_OF_BOUND = (0.9, 0.1), 30.0
"""The same, of the simple members together and the bound."""
PRIOR_OF_SUMMED = (0.3, 0.7)
"""The same where the model was trained on cells without a label too, of which the simple members know nothing."""
LEAST_WEIGHT = 0.02
"""A bound with less weight is left out, which saves its computation."""


class LabelPrediction(NamedTuple):
    """What is predicted for cells.

    Parameters
    ----------
    probability_nc
        Of each category.
    in_set_nc
        Whether the conformal set of a cell has a category. It may have none, or several.
    unknown_n
        The share of training cells that are nearer to a label than the cell is: one for cells unlike all labels.
    """

    probability_nc: Numbers
    in_set_nc: NDArray[np.bool_]
    unknown_n: Numbers


@dataclass(frozen=True, eq=False)
class FieldLabels:
    """The label model of one field.

    Parameters
    ----------
    categories
        Its labels.
    code_n
        The label of each training cell, −1 for those without.
    logistic
        The logistic regression in each space.
    weight_m
        The weight of each member.
    distance
        Distances to labels, in the second space.
    least
        The probability from which on a label is in the set of a cell.
    """

    categories: tuple[str, ...]
    code_n: NDArray[np.int64]
    logistic: tuple[Logistic, ...]
    weight_m: Numbers
    distance: Distance
    least: float

    @classmethod
    def fit(cls, spaces: Sequence[Space], code_n: NDArray[np.int64], categories: Sequence[str]) -> Self:
        """Fit the simple members to training cells, and their weights to the same cells, each left out of its fold."""
        n, rows = len(categories), np.flatnonzero(code_n >= 0)
        fold_n = np.random.default_rng(0).permutation(np.arange(len(rows)) % N_FOLDS)
        label_n = code_n[rows]
        members: list[Numbers] = []
        logistic = []
        for space, penalty in zip(spaces, PENALTY, strict=True):
            z_nk = space.training_nk
            nearest_nm = space.nearest(z_nk, of_training=True)[rows]
            z_nk, log_p_nc = z_nk[rows], np.empty((len(rows), n))
            for fold in range(N_FOLDS):
                inside = fold_n == fold
                found = Logistic.fit(z_nk[~inside], label_n[~inside], n, penalty)
                log_p_nc[inside] = found.log_probability_nc(z_nk[inside])
            logistic.append(Logistic.fit(z_nk, label_n, n, penalty))
            members += [log_p_nc, neighbour_shares(nearest_nm, code_n, _shares(label_n, n))]
        members = [_floored(each) for each in members]
        weight_m = member_weights(members, label_n, np.full(len(members), PRIOR), STRENGTH)
        held_out_n = np.empty(len(rows))
        for fold in range(N_FOLDS):
            inside = fold_n == fold
            held_out_n[inside] = Distance.fit(z_nk[~inside], label_n[~inside], n).square_n(z_nk[inside])
        levels = np.linspace(0, 1, min(N_QUANTILES, len(rows)))
        distance = replace(Distance.fit(z_nk, label_n, n), quantile_q=np.quantile(held_out_n, levels))
        least = _least(np.exp(combined(members, weight_m)), label_n)
        return cls(tuple(categories), code_n, tuple(logistic), np.append(weight_m, 0.0), distance, least)

    def members(self, spaces: Sequence[Space], places: Sequence[Numbers]) -> list[Numbers]:
        """Return the log-probabilities of the simple members, of cells at these places in the spaces."""
        found = []
        share_c = _shares(self.code_n[self.code_n >= 0], len(self.categories))
        for space, z_nk, logistic in zip(spaces, places, self.logistic, strict=True):
            found += [logistic.log_probability_nc(z_nk), neighbour_shares(space.nearest(z_nk), self.code_n, share_c)]
        return [_floored(each) for each in found]

    def with_bound(
        self,
        spaces: Sequence[Space],
        x_ng: NDArray[np.float32],
        bound_nc: Numbers,
        label_n: NDArray[np.int64],
        prior: tuple[float, float] = PRIOR_OF_BOUND,
    ) -> FieldLabels:
        """Weigh the bound against the simple members on validation cells, which also set the size of the sets.

        Parameters
        ----------
        spaces, x_ng
            The spaces, and the expression of the validation cells.
        bound_nc
            The log-probabilities of the bound.
        label_n
            Their labels.
        prior
            The weights without any cells.
        """
        simple = self.members(spaces, [space.embed(x_ng) for space in spaces])
        both = [combined(simple, self.weight_m[:BOUND]), _floored(bound_nc)]
        weights = member_weights(both, label_n, np.array(prior), STRENGTH_OF_BOUND)
        weights[1] = weights[1] if weights[1] >= LEAST_WEIGHT else 0.0
        # A chance excess of hard cells shows in the simple members, whose level is known from many more cells.
        hard = float((_of_truth(np.exp(combined(simple, self.weight_m[:BOUND])), label_n) < self.least).mean())
        least = float(np.quantile(_of_truth(np.exp(combined(both, weights)), label_n), hard))
        return replace(self, weight_m=np.append(weights[0] * self.weight_m[:BOUND], weights[1]), least=least)

    def predict(
        self, spaces: Sequence[Space], x_ng: NDArray[np.float32], bound_nc: Numbers | None = None
    ) -> LabelPrediction:
        """Predict the labels of cells.

        Parameters
        ----------
        spaces, x_ng
            The spaces, and log-normalised expression.
        bound_nc
            The log-probabilities of the bound, if it has a weight.
        """
        places = [space.embed(x_ng) for space in spaces]
        members = self.members(spaces, places)
        weight_m = self.weight_m[:BOUND]
        if bound_nc is not None:
            members, weight_m = [*members, _floored(bound_nc)], self.weight_m
        p_nc = np.exp(combined(members, weight_m))
        return LabelPrediction(p_nc, p_nc >= self.least, self.distance.rank_n(places[-1]))


@dataclass(frozen=True, eq=False)
class Labels:
    """The label models of all fields, with the spaces that they share.

    Parameters
    ----------
    spaces
        Principal components of expression, and of genes in units of their standard deviation.
    mean_g
        The mean of each gene, for cells in which it was not measured.
    fields
        The label model of each field.
    """

    spaces: tuple[Space, ...]
    mean_g: NDArray[np.float32]
    fields: Mapping[str, FieldLabels]

    @classmethod
    def fit(
        cls,
        x_ng: NDArray[np.float32],
        measured_ng: NDArray[np.bool_] | None,
        codes: Mapping[str, NDArray[np.int64]],
        categories: Mapping[str, Sequence[str]],
    ) -> Labels:
        """Fit the label models to training cells.

        Parameters
        ----------
        x_ng
            Expression on a log scale.
        measured_ng
            Which of it was measured; all where it is None.
        codes
            For each field, the label of each cell, −1 for none.
        categories
            For each field, its labels.
        """
        mean_g = x_ng.mean(0) if measured_ng is None else x_ng.sum(0) / np.maximum(measured_ng.sum(0), 1)
        mean_g = mean_g.astype(np.float32)
        x_ng = filled(x_ng, measured_ng, mean_g)
        scale_g = x_ng.std(0)
        varying = scale_g[scale_g > 0]
        # Adding the median keeps genes that hardly vary from counting as much as the others.
        scale_g = scale_g + (np.median(varying) if len(varying) else np.float32(1))
        spaces = (Space.fit(x_ng), Space.fit(x_ng, scale_g.astype(np.float32)))
        return cls(
            spaces, mean_g, {name: FieldLabels.fit(spaces, code_n, categories[name]) for name, code_n in codes.items()}
        )

    def uses_bound(self, field: str) -> bool:
        """Return whether the bound has a weight."""
        return bool(self.fields[field].weight_m[BOUND] > 0)

    def with_bound(
        self,
        field: str,
        x_ng: NDArray[np.float32],
        measured_ng: NDArray[np.bool_] | None,
        bound_nc: Numbers,
        label_n: NDArray[np.int64],
        *,
        summed: bool = False,
    ) -> Labels:
        """Weigh the bound of a field on validation cells; ``summed`` where the model sums over missing labels."""
        x_ng = filled(x_ng, measured_ng, self.mean_g)
        prior = PRIOR_OF_SUMMED if summed else PRIOR_OF_BOUND
        found = self.fields[field].with_bound(self.spaces, x_ng, bound_nc, label_n, prior)
        return replace(self, fields={**self.fields, field: found})

    def predict(
        self,
        field: str,
        x_ng: NDArray[np.float32],
        measured_ng: NDArray[np.bool_] | None = None,
        bound_nc: Numbers | None = None,
    ) -> LabelPrediction:
        """Predict a field of cells."""
        return self.fields[field].predict(self.spaces, filled(x_ng, measured_ng, self.mean_g), bound_nc)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all numbers, by name."""
        arrays: dict[str, NDArray[Any]] = {"mean_g": self.mean_g}
        for number, space in enumerate(self.spaces):
            arrays |= {f"space{number}/{name}": x for name, x in vars(space).items()}
        for number, each in enumerate(self.fields.values()):
            found: dict[str, NDArray[Any]] = {"code_n": each.code_n.astype(np.int32), **vars(each.distance)}
            found |= {"weight_m": each.weight_m, "least": np.array([each.least])}
            for s, logistic in enumerate(each.logistic):
                found |= {f"{name}{s}": x for name, x in vars(logistic).items()}
            arrays |= {f"field{number}/{name}": x for name, x in found.items()}
        return arrays

    def to_json(self) -> dict[str, list[str]]:
        """Return the labels of each field."""
        return {name: list(each.categories) for name, each in self.fields.items()}

    @classmethod
    def restore(cls, categories: Mapping[str, Sequence[str]], arrays: Mapping[str, NDArray[Any]]) -> Labels:
        """Restore from names and numbers.

        Raises
        ------
        ValueError
            If they do not fit each other.
        """
        taken: set[str] = set()

        def take(name: str, *shape: int | None) -> NDArray[Any]:
            x = arrays.get(name, np.empty(0))
            if len(shape) != x.ndim or any(n is not None and n != m for n, m in zip(shape, x.shape, strict=True)):
                raise ValueError(f"{name} has the shape {x.shape}, not {shape}")
            if name not in arrays or (not np.isfinite(x).all() and not name.endswith("mean_ck")):
                raise ValueError(f"{name} is missing, or has values that are not finite")
            taken.add(name)
            return x

        mean_g = take("mean_g", None)
        spaces = []
        for s in range(len(PENALTY)):
            axis_gk = take(f"space{s}/axis_gk", len(mean_g), None)
            k = axis_gk.shape[1]
            spaces.append(Space(axis_gk, take(f"space{s}/centre_k", k), take(f"space{s}/cell_nk", None, k)))
        n, n_axes = len(spaces[0].cell_nk), [space.axis_gk.shape[1] for space in spaces]
        fields = {}
        for number, (name, labels) in enumerate(categories.items()):
            c, of = len(labels), f"field{number}/"
            logistic = tuple(
                Logistic(take(f"{of}weight_kc{s}", k, c), take(f"{of}intercept_c{s}", c)) for s, k in enumerate(n_axes)
            )
            distance = Distance(
                take(f"{of}mean_ck", c, n_axes[-1]), take(f"{of}precision_kk", n_axes[-1], n_axes[-1]),
                take(f"{of}quantile_q", None),
            )  # fmt: skip
            np.linalg.cholesky(distance.precision_kk)  # raises if it is not one
            code_n = take(f"{of}code_n", n).astype(np.int64)
            if not -1 <= code_n.min(initial=0) <= code_n.max(initial=0) < c or len(spaces[1].cell_nk) != n:
                raise ValueError(f"the cells of '{name}' do not fit its labels")
            weight_m = take(f"{of}weight_m", len(MEMBERS))
            if weight_m.min() < 0 or not len(distance.quantile_q) or np.isnan(distance.mean_ck).all():
                raise ValueError(f"the weights or distances of '{name}' are not valid")
            least = float(take(f"{of}least", 1)[0])
            fields[name] = FieldLabels(tuple(map(str, labels)), code_n, logistic, weight_m, distance, least)
        if unread := arrays.keys() - taken:
            raise ValueError(f"{min(unread)} is not part of it")
        return cls(tuple(spaces), mean_g, fields)


def filled(
    x_ng: NDArray[np.float32], measured_ng: NDArray[np.bool_] | None, mean_g: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return expression with the mean of a gene where it was not measured."""
    return x_ng if measured_ng is None else np.where(measured_ng, x_ng, mean_g)


def _floored(log_p_nc: Numbers) -> Numbers:
    """Mix probabilities with uniform ones."""
    return np.asarray(np.log((1 - FLOOR) * np.exp(log_p_nc) + FLOOR / log_p_nc.shape[1]))


def _shares(label_n: NDArray[np.int64], n_categories: int) -> Numbers:
    count_c = np.bincount(label_n, minlength=n_categories) + 0.5
    return np.asarray(count_c / count_c.sum())


def _of_truth(p_nc: Numbers, label_n: NDArray[np.int64]) -> Numbers:
    return p_nc[np.arange(len(label_n)), label_n]


def _least(p_nc: Numbers, label_n: NDArray[np.int64]) -> float:
    """Return the probability that the true label of a new cell reaches with probability ``SET_LEVEL``, or more.

    References
    ----------
    Sadinle, Lei and Wasserman, Journal of the American Statistical Association 114:223 (2019).
    """
    true_n = np.sort(_of_truth(p_nc, label_n))
    rank = int(np.floor((1 - SET_LEVEL) * (len(true_n) + 1)))
    return float(true_n[rank - 1]) if rank > 0 else 0.0
