"""Profiles: mean expression of the training cells in every state, from which responses are predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from genevae.responses.members import State

__all__ = ["SEPARATOR", "Profiles", "View", "dose_of", "text_of"]

Numbers = NDArray[Any]
FEWEST, LEAST_ALIKE = 20, 3
"""Cells of a state that others are predicted from, where there are three such contexts: profiles of few are noise."""
PRIOR_DF = 3.0
"""Degrees of freedom of the variance over all states, where that of a state is estimated."""
SEPARATOR = ", "
"""Between the categories of a state as text."""


@dataclass(frozen=True, eq=False)
class View:
    """Profiles as states of a perturbation: each has a context and a level.

    Parameters
    ----------
    mean, variance
        The profile of each state, and the sampling variance of it.
    n
        Its number of cells.
    latent
        The mean of its cells in the latent.
    """

    mean: Mapping[State, Numbers]
    variance: Mapping[State, Numbers]
    n: Mapping[State, int]
    latent: Mapping[State, Numbers]

    def alike(self, source: str, target: str, context: str) -> list[str]:
        """Return the other contexts that have both levels: those with enough cells, where there are three of them."""
        both = [c for c, level in self.mean if level == target and c != context and (c, source) in self.mean]
        large = [c for c in both if min(self.n[c, target], self.n[c, source]) >= FEWEST]
        return large if len(large) >= LEAST_ALIKE else both

    def few(self, source: str, target: str, context: str) -> set[State]:
        """Return the states of other contexts that are left out because they have few cells and others have more."""
        kept = self.alike(source, target, context)
        if len(kept) < LEAST_ALIKE or any(min(self.n[c, target], self.n[c, source]) < FEWEST for c in kept):
            return set()
        return {state for state, n in self.n.items() if n < FEWEST and state[0] != context}


@dataclass(frozen=True, eq=False)
class Profiles:
    """The mean and the variance over the training cells of every state, log-normalised where they are counts.

    Parameters
    ----------
    fields
        The obs columns that states are combinations of.
    keys
        The categories of each state; doses as text.
    n_m
        The number of cells of each state, here at most 1,000.
    mean_mg, variance_mg
        The mean and the variance of each gene over the cells.
    latent_mk
        The mean of the cells in the latent.
    """

    fields: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    n_m: Numbers
    mean_mg: Numbers
    variance_mg: Numbers
    latent_mk: Numbers
    _views: dict[tuple[tuple[str, ...], tuple[str, ...]], View] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check that there is a row for each state."""
        lengths = {len(self.keys), *map(len, (self.n_m, self.mean_mg, self.variance_mg, self.latent_mk))}
        if len(lengths) > 1 or any(len(key) != len(self.fields) for key in self.keys):
            raise ValueError("The profiles have columns of several lengths.")

    def contexts(self, fields: Sequence[str]) -> tuple[str, ...]:
        """Return the fields that are contexts when some are set: the others, but for those that are nested in them.

        A field is nested if each of its categories occurs with one level only, such as the donor where each donor had
        one treatment. States that differ in such a field are replicates of one state.
        """
        levels = [tuple(dict(zip(self.fields, key, strict=True))[name] for name in fields) for key in self.keys]
        rest = [name for name in self.fields if name not in fields]
        found = []
        for name in rest:
            at = self.fields.index(name)
            of_category: dict[str, set[tuple[str, ...]]] = {}
            for key, level in zip(self.keys, levels, strict=True):
                of_category.setdefault(key[at], set()).add(level)
            if len(set(levels)) == 1 or any(len(several) > 1 for several in of_category.values()):
                found.append(name)
        return tuple(found)

    def view(self, fields: Sequence[str], contexts: Sequence[str] | None = None) -> View:
        """Return states by context and level, where the level is that of some of the fields, in this order.

        Contexts are categories of ``contexts``, by default of all other fields that are not nested in these.

        The mean of a state with replicates is over all its cells, and its sampling variance is that between them. The
        result is kept for the next call.
        """
        key = (tuple(fields), tuple(self.contexts(fields) if contexts is None else contexts))
        if key not in self._views:
            self._views[key] = self._view(*key)
        return self._views[key]

    def _view(self, fields: tuple[str, ...], contexts: tuple[str, ...]) -> View:
        members: dict[State, list[int]] = {}
        for m, key in enumerate(self.keys):
            values = dict(zip(self.fields, key, strict=True))
            members.setdefault((text_of(values, contexts), text_of(values, fields)), []).append(m)
        variance_mg = self._variance_mg()
        between_g = self._between_g(list(members.values()))
        mean, variance, n, latent = {}, {}, {}, {}
        for state, rows in members.items():
            n_r = self.n_m[rows].astype(np.float64)
            share_r = n_r / n_r.sum()
            mean[state] = share_r @ self.mean_mg[rows].astype(np.float64)
            latent[state] = share_r @ self.latent_mk[rows].astype(np.float64)
            within_g = np.square(share_r) @ (variance_mg[rows] / n_r[:, None])
            variance[state] = within_g + float(np.square(share_r).sum()) * between_g
            n[state] = int(n_r.sum())
        return View(mean, variance, n, latent)

    def _between_g(self, groups: Sequence[Sequence[int]]) -> Numbers:
        """Return the variance between replicates of one state beyond that within them; zero without replicates."""
        total_g, df = np.zeros(self.mean_mg.shape[1]), 0
        for rows in groups:
            if len(rows) > 1:
                mean_rg = self.mean_mg[rows].astype(np.float64)
                within_g = (self.variance_mg[rows] / self.n_m[rows][:, None]).mean(0)
                total_g += np.square(mean_rg - mean_rg.mean(0)).sum(0) - (len(rows) - 1) * within_g
                df += len(rows) - 1
        return np.maximum(total_g / max(df, 1), 0)

    def _variance_mg(self) -> Numbers:
        """Return variances over cells, of which those of few cells are drawn towards the mean over all states."""
        df_m = np.maximum(self.n_m.astype(np.float64) - 1, 0)[:, None]
        square_mg = self.variance_mg.astype(np.float64) * np.maximum(self.n_m, 1)[:, None]
        pooled_g = square_mg.sum(0) / max(df_m.sum(), 1.0)
        return np.asarray((square_mg + PRIOR_DF * pooled_g) / (df_m + PRIOR_DF))

    def to_arrays(self) -> dict[str, Numbers]:
        """Return the numbers by name."""
        return {name: getattr(self, name) for name in ("n_m", "mean_mg", "variance_mg", "latent_mk")}

    def to_json(self) -> dict[str, Any]:
        """Return the names of the states."""
        return {"fields": list(self.fields), "states": [list(key) for key in self.keys]}

    @classmethod
    def restore(cls, content: Mapping[str, Any], arrays: Mapping[str, Numbers]) -> Self:
        """Restore from names and numbers."""
        keys = tuple(tuple(map(str, key)) for key in content["states"])
        names = ("n_m", "mean_mg", "variance_mg", "latent_mk")
        return cls(tuple(content["fields"]), keys, *(arrays[name] for name in names))


def text_of(values: Mapping[str, str], fields: Sequence[str]) -> str:
    """Return the categories of some fields as text."""
    return SEPARATOR.join(values[name] for name in fields)


def dose_of(text: str) -> float:
    """Return the number of a dose; NaN where the text is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
