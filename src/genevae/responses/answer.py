"""The answer to "what if": members, weights, what was observed, and how far off it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from genevae.errors import CategoryError, nearest
from genevae.responses.members import MEAN_SHIFT, NO_CHANGE, PARTS_JOIN, RIDGE, State, dose_members, members
from genevae.responses.profiles import SEPARATOR, Profiles, View, dose_of, text_of
from genevae.responses.shrinkage import shrink
from genevae.responses.simple import similarity
from genevae.responses.stack import OutOfFold, Residuals, Stack

__all__ = ["MODEL_MEMBERS", "Answer", "Request", "Responses"]

Shift = NDArray[np.float64]

MODEL_MEMBERS = ("model", "latent arithmetic")
"""Members that need the trained model; the others need profiles alone."""
MAX_STATES = 40
"""States that weights are fitted to, at most."""
FEW_STATES = 2
"""States at least, to prefer some to others."""
MOST_DIFFERENT = 0.1
"""Squared difference between the profiles of the cells and of training cells, over the mean squared shift, at most."""
WIDTH = 0.3
"""Width of the similarity of contexts, for the noise of what is predicted from them."""
MIN_CELLS = 5
"""Cells of a state that weights are fitted to, where there are states with so many."""


@dataclass(frozen=True, eq=False)
class Request:
    """A question: the shift from one level to another in one context.

    Parameters
    ----------
    fields
        The fields that are set.
    context
        The categories of all other fields, as text; see :func:`~genevae.responses.profiles.text_of`.
    source, target
        The levels, as text.
    reference_g, noise_g
        The measured profile in the source level, and its sampling variance.
    n_cells
        The number of cells that were measured.
    dose
        The dose in the target, where one of the fields is a dose, and the field.
    model
        Computes the shifts that the trained model predicts, by the name of the member; only called if they are needed.
    contexts
        The fields that contexts are combinations of; by default :meth:`Profiles.contexts`. States that differ in
        others are pooled.
    """

    fields: tuple[str, ...]
    context: str
    source: str
    target: str
    reference_g: Shift
    noise_g: Shift
    n_cells: int
    dose: tuple[str, float] | None = None
    model: Callable[[], Mapping[str, Shift]] = dict
    contexts: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """A predicted shift.

    Parameters
    ----------
    shift_g
        The shift of every gene, on the scale of the profiles.
    sd_g
        The standard deviation of the true shift around it; NaN where nothing says how far off predictions are.
    half_width_g
        Half the width of the interval that holds the shift which is measured in as many perturbed cells as the training
        states have.
    weights
        The weight of every member; ``observed`` is that of the training cells of the same state.
    members
        Their shifts.
    """

    shift_g: Shift
    sd_g: Shift
    half_width_g: Shift
    weights: Mapping[str, float]
    members: Mapping[str, Shift]


@dataclass(frozen=True, eq=False)
class Responses:
    """Profiles of the training cells, and what models predicted for states that they were not trained on.

    Parameters
    ----------
    profiles
        The profiles.
    control
        The control level of each perturbation field.
    left_out_fields
        The fields of the states that models were trained without.
    left_out
        For each of these states, by its categories: the shift from control that this model predicts, by the name of the
        member.
    vectors
        For each field with an embedding, the vector of each level.
    """

    profiles: Profiles
    control: Mapping[str, str] = field(default_factory=dict)
    left_out_fields: tuple[str, ...] = ()
    left_out: Mapping[tuple[str, ...], Mapping[str, Shift]] = field(default_factory=dict)

    vectors: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    _predictions: dict[Any, OutOfFold] = field(default_factory=dict, init=False, repr=False)

    def answer(self, request: Request, interval: float = 0.9, only: str | None = None) -> Answer:
        """Predict a shift.

        The members are weighted as they predicted the states of the training cells, each without that state. Where
        training cells had the wanted state, the shift that they had is the estimate, and the prediction its prior.

        Parameters
        ----------
        request
            The question.
        interval
            The share of intervals that hold the shift.
        only
            The name of the one member to use.

        Raises
        ------
        CategoryError
            If there is no such member.
        """
        if request.source == request.target:
            still = np.zeros_like(request.reference_g)
            return Answer(still, still, still, {NO_CHANGE: 1.0}, {NO_CHANGE: still})
        view = self._view(request)
        found = self._members(view, request)
        if only in MODEL_MEMBERS or (only is None and (self.left_out or list(found) == [NO_CHANGE])):
            found |= request.model()
        if only is not None and only not in found:
            names = ["auto", *MODEL_MEMBERS, *found]
            raise CategoryError(
                f"There is no answer '{only}' for '{request.context or 'these cells'}'. {nearest(only, names)}"
            )
        usable = self._usable(found) if only is None else [only]
        known = self._out_of_fold(view, request)
        fitted, usable = _common(known, usable)
        near_q = self._nearness(request, found, fitted)
        stack = Stack.fit(fitted, usable, near_q) if only is None else Stack({only: 1.0}, 1.0)
        shift_g = stack.shift_g(found)
        residuals = stack.residuals(known, interval)
        state = (request.context, request.target)
        if only is None and state in view.mean and (request.context, request.source) in view.mean:
            return self._with_observed(view, request, stack, found, shift_g, residuals, interval)
        if residuals is None:
            unknown = np.full(len(shift_g), np.nan)
            return Answer(shift_g, unknown, unknown, _shown(stack), found)
        sd_g = np.sqrt(residuals.variance_g) * residuals.factor
        return Answer(
            shift_g,
            sd_g,
            residuals.half_width_g(request.noise_g + residuals.target_noise_g, interval),
            _shown(stack),
            found,
        )

    def describes(self, request: Request) -> bool:
        """Return whether the profiles are of cells like those of a request.

        With contexts they are, since the measured profile says which contexts are similar. Without, all training cells
        of a level are one state: cells that differ from it, such as one cell type where it has all types, respond in
        their own way, which no profile knows. They do where the squared difference of the two profiles in the source
        level, less noise, is more than a tenth of the mean squared shift between levels.
        """
        view = self._view(request)
        source = ("", request.source)
        if self._contexts(request) or source not in view.mean:
            return True
        noise_g = request.noise_g + view.variance[source]
        gap = float((np.square(request.reference_g - view.mean[source]) - noise_g).mean())
        powers = [
            float((np.square(x_g - view.mean[source]) - view.variance[state] - view.variance[source]).mean())
            for state, x_g in view.mean.items()
            if state != source
        ]
        return gap <= MOST_DIFFERENT * max(float(np.mean(powers)) if powers else 0.0, 0.0) or gap <= 0

    def _contexts(self, request: Request) -> tuple[str, ...]:
        """Return the fields that contexts are combinations of."""
        return self.profiles.contexts(request.fields) if request.contexts is None else request.contexts

    def _view(self, request: Request) -> View:
        return self.profiles.view(request.fields, request.contexts)

    def _with_observed(
        self, view: View, request: Request, stack: Stack, found: Mapping[str, Shift], prior_g: Shift,
        residuals: Residuals | None, interval: float,
    ) -> Answer:  # fmt: skip
        """Return the posterior of the shift: the prediction is the prior, and training cells of the state the data."""
        source, target = (request.context, request.source), (request.context, request.target)
        observed_g = view.mean[target] - view.mean[source]
        noise_g = view.variance[target] + view.variance[source]
        prior_variance_g = np.zeros_like(prior_g)
        if residuals is not None and _fits(prior_g, observed_g):  # a prediction that is far from what was seen is none
            noise_of_others_g = self._noise_of_others(view, request)  # or how far off it was for left-out states
            prior = shrink(prior_g, np.maximum(residuals.variance_g, noise_of_others_g))
            prior_g, prior_variance_g = prior.mean_g, prior.variance_g
        else:
            prior_g = np.zeros_like(prior_g)
        posterior = shrink(observed_g - prior_g, noise_g)
        share_g = (posterior.variance_g / noise_g.clip(min=1e-12)).clip(0, 1)
        shift_g = prior_g + posterior.mean_g
        sd_g = np.sqrt(posterior.variance_g + np.square(1 - share_g) * prior_variance_g)
        share = float(share_g.mean())
        weights = {name: weight * (1 - share) for name, weight in _shown(stack).items()}
        sampling_g = sd_g**2 + request.noise_g + view.variance[target]
        half_g = ndtri((1 + interval) / 2) * np.sqrt(sampling_g)
        return Answer(shift_g, sd_g, half_g, {"observed": share, **weights}, found)

    def _noise_of_others(self, view: View, request: Request) -> Shift:
        """Return the sampling variance of a mean over other states, weighted by the similarity of their contexts."""
        others = view.alike(request.source, request.target, request.context)
        if not others:  # what is known is from the same context, as for parts of a combination
            noise_sg = [x_g for state, x_g in view.variance.items() if state[0] == request.context]
            return np.asarray(np.mean(noise_sg, axis=0))
        source, target = request.source, request.target
        weight_m = similarity([view.mean[c, source] for c in others], request.reference_g, WIDTH)
        noise_mg = np.stack([view.variance[c, target] + view.variance[c, source] for c in others])
        return np.asarray(np.square(weight_m) @ noise_mg)

    def _members(self, view: View, request: Request) -> dict[str, Shift]:
        """Return the shifts of all simple members, from all states but the wanted one."""
        wanted = (request.context, request.target)
        few = view.few(request.source, request.target, request.context)
        seen = {state: x for state, x in view.mean.items() if state != wanted and state not in few}
        found = members(seen, request.source, wanted, request.reference_g, self._vectors(request))
        if "additive" in found:
            found["additive"] = self._additive(view, request)
        if request.dose is not None:
            found |= self._dose_members(view, request)
        return found

    def _vectors(self, request: Request) -> Mapping[str, Sequence[float]]:
        """Return the vector of each level, where the one field that is set has some."""
        return self.vectors.get(request.fields[0], {}) if len(request.fields) == 1 else {}

    def _nearness(
        self, request: Request, found: Mapping[str, Shift], known: Sequence[OutOfFold]
    ) -> NDArray[np.float64] | None:
        """Return how near the vectors of states are to that of the wanted level, where it is known by that alone."""
        vectors = self._vectors(request)
        if RIDGE not in found or MEAN_SHIFT in found or not all(one.level in vectors for one in known) or not known:
            return None
        return similarity([vectors[one.level] for one in known], vectors[request.target], WIDTH)

    def _additive(self, view: View, request: Request) -> Shift:
        """Return the sum of the shifts of the parts, each shrunken by its noise."""
        start = (request.context, request.source)
        total_g = np.zeros_like(request.reference_g)
        for part in request.target.split(PARTS_JOIN):
            state = (request.context, part)
            noise_g = view.variance[state] + view.variance[start]
            total_g += shrink(view.mean[state] - view.mean[start], noise_g).mean_g
        return total_g

    def _dose_members(self, view: View, request: Request) -> dict[str, Shift]:
        """Return the shifts of the members that use the other doses of the same context and drug."""
        assert request.dose is not None  # noqa: S101 - for the types
        name, dose = request.dose
        at = request.fields.index(name)
        wanted = request.target.split(SEPARATOR)
        start = view.mean.get((request.context, request.source), request.reference_g)
        doses: dict[float, tuple[Shift, int]] = {}
        untreated = (request.context, self._control_level(request))
        if untreated in view.mean:
            doses[0.0] = (view.mean[untreated] - start, view.n[untreated])
        elif dose_of(request.source.split(SEPARATOR)[at]) == 0:
            doses[0.0] = (np.zeros_like(start), request.n_cells)
        for (context, level), x_g in view.mean.items():
            parts = level.split(SEPARATOR)
            here = dose_of(parts[at]) if len(parts) == len(wanted) else np.nan
            alike = all(i == at or part == wanted[i] for i, part in enumerate(parts))
            if context == request.context and alike and here > 0 and here != dose:
                doses[here] = (x_g - start, view.n[context, level])
        if len(doses) < 2:
            return {}
        ordered = sorted(doses)
        shift_dg = np.stack([doses[d][0] for d in ordered])
        found = dose_members(np.array(ordered), shift_dg, dose, np.array([doses[d][1] for d in ordered], dtype=float))
        return {name: x for name, x in found.items() if name != NO_CHANGE}

    def _usable(self, found: Mapping[str, Shift]) -> list[str]:
        """Return the members that weights can be fitted for: those of the model need states that it was not given."""
        simple = [name for name in found if name not in MODEL_MEMBERS]
        if simple == [NO_CHANGE]:  # nothing but the model says anything
            return [name for name in found if name == "model"] or simple
        return list(found) if self.left_out else simple

    def _out_of_fold(self, view: View, request: Request) -> list[OutOfFold]:
        """Return states of the training cells, with what the members predict for them.

        States of the wanted level in other contexts come first; others join them where those are fewer than two.
        """
        source = self._control_level(request)
        wanted = (request.context, request.target)
        states = [s for s in view.mean if s[1] != source and (s[0], source) in view.mean]
        large = [s for s in states if min(view.n[s], view.n[s[0], source]) >= MIN_CELLS]
        states = large if len(large) >= FEW_STATES else states
        same = [s for s in states if s[1] == request.target and s != wanted]
        is_sum, is_dose = PARTS_JOIN in request.target, request.dose is not None
        if is_sum:
            states = [s for s in states if PARTS_JOIN in s[1]]
        elif len(same) >= FEW_STATES and not is_dose:
            states = same
        vectors = self._vectors(request)
        if not same and not is_sum and request.target in vectors:  # those that are nearest to what was never seen
            states = [s for s in states if s[1] in vectors and s != wanted]
            off = [np.square(np.subtract(vectors[s[1]], vectors[request.target])).sum() for s in states]
            states = [states[at] for at in np.argsort(off, kind="stable")[:MAX_STATES]]
        states = [states[i] for i in np.linspace(0, len(states) - 1, min(len(states), MAX_STATES)).round().astype(int)]
        return [self._kept_prediction(view, request, state, source) for state in states if state != wanted]

    def _kept_prediction(self, view: View, request: Request, state: State, source: str) -> OutOfFold:
        """Return what the members predict for a state, kept for the next request with the same fields."""
        dose = None if request.dose is None else request.dose[0]
        key = (request.fields, self._contexts(request), state, source, dose)
        if key not in self._predictions:
            self._predictions[key] = self._predict(view, request, state, source)
        return self._predictions[key]

    def _predict(self, view: View, request: Request, state: State, source: str) -> OutOfFold:
        """Predict a state of the training cells from the others."""
        context, level = state
        reference_g, start_noise_g = view.mean[context, source], view.variance[context, source]
        dose = None
        if request.dose is not None:
            at = request.fields.index(request.dose[0])
            dose = (request.dose[0], dose_of(level.split(SEPARATOR)[at]))
        question = replace(
            request, context=context, source=source, target=level, reference_g=reference_g, dose=dose,
            n_cells=view.n[context, source], model=dict,
        )  # fmt: skip
        found = self._members(view, question)
        found |= self._left_out(request, context, level)
        noise_g = view.variance[state]
        return OutOfFold(found, view.mean[state] - reference_g, noise_g + start_noise_g, noise_g, level)

    def _left_out(self, request: Request, context: str, level: str) -> dict[str, Shift]:
        contexts = self._contexts(request)
        if {*contexts, *request.fields} != set(self.left_out_fields):
            return {}
        for key, found in self.left_out.items():
            values = dict(zip(self.left_out_fields, key, strict=True))
            if text_of(values, contexts) == context and text_of(values, request.fields) == level:
                return dict(found)
        return {}

    def _control_level(self, request: Request) -> str:
        """Return the control level of the fields, or the source where a field has no control."""
        if all(name in self.control for name in request.fields):
            return text_of(self.control, request.fields)
        return request.source


def _common(known: Sequence[OutOfFold], names: list[str]) -> tuple[list[OutOfFold], list[str]]:
    """Return the states that have all these members, and the members; without those of the model if few states do."""
    simple = [name for name in names if name not in MODEL_MEMBERS]
    with_simple = [one for one in known if set(simple) <= set(one.members)]
    with_all = [one for one in with_simple if set(names) <= set(one.members)]
    if simple == names or not simple or len(with_all) >= min(FEW_STATES, max(len(with_simple), 1)):
        return with_all, names
    return with_simple, simple


def _shown(stack: Stack) -> dict[str, float]:
    return {name: weight for name, weight in stack.weights.items() if weight > 1e-3}


def _fits(prior_g: Shift, observed_g: Shift) -> bool:
    """Return whether a prediction is nearer to what was observed than no change is."""
    off, size = np.square(observed_g - prior_g).sum(), np.square(observed_g).sum()
    return bool(off < size)
