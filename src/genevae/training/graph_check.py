"""Whether a recorded step does what a step of the loop does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from genevae.cells import Cells, ExpressionRows
from genevae.objectives.objective import Loss, Progress
from genevae.training.autocast import drawing_nothing

if TYPE_CHECKING:
    from genevae.training.state import State

__all__ = ["Trial", "difference", "outcome_of", "put_back", "step_of_the_loop", "trials_of"]

CLOSE = {"float32": 1e-3, "bf16": 2e-2}
"""How far numbers of both steps may be from each other, as a share of them: their sums have another order."""
ROUNDING = {"float32": 1e-5, "bf16": 1e-2}
"""A gradient that is smaller, as a share of that of all parameters, may be nothing but rounding."""
FLOOR = 1e-3
"""How far weights may be from each other beside that, as a share of the learning rate, by which Adam moves them."""


@dataclass(frozen=True)
class Trial:
    """A step to take.

    Parameters
    ----------
    cells, progress
        The minibatch, and where training is.
    factor
        What the gradients and the learning rates are multiplied by.
    """

    cells: Cells
    progress: Progress
    factor: float


Changes = dict[tuple[str, str], Tensor]
"""What a step has changed: weights, their moments in Adam, and buffers, by kind and name."""


@dataclass(frozen=True)
class Outcome:
    """The losses and the norms of some steps, and what they have changed."""

    numbers: list[float]
    changes: Changes


def trials_of(state: State, cells: Cells) -> list[Trial]:
    """Return two steps that differ in all that may change: the cells, the weights of schedules, rates and clipping."""
    x = ExpressionRows.from_dense(cells.x.dense().flip(0))
    backwards = Cells(x, cells.condition.map(lambda tensor: tensor.flip(0)), cells.row_n.flip(0))
    last = replace(state.progress, step=state.n_steps)
    return [Trial(cells, state.progress, 0.5), Trial(backwards, last, 0.25)]


def outcome_of(state: State, trials: Sequence[Trial], step: Callable[[Trial], list[float]]) -> Outcome:
    """Take the steps of some trials, each of which returns its loss and its norm, and put everything back."""
    rate_factor = state.optimizer.rate_factor
    with put_back(state) as before:
        numbers: list[float] = []
        for trial in trials:
            state.optimizer.rate_factor = rate_factor * trial.factor
            numbers += step(trial)
        after = _changing(state)
        return Outcome(numbers, {key: (after[key] - former).float() for key, former in before.items()})


@contextmanager
def put_back(state: State) -> Iterator[Changes]:
    """Put back what a step changes, and the random numbers; yields copies of what it was."""
    tensors, rate_factor, moments = _changing(state), state.optimizer.rate_factor, state.optimizer.state
    before, had_moments = {key: tensor.clone() for key, tensor in tensors.items()}, set(moments)
    with drawing_nothing(state.device):
        try:
            yield before
        finally:
            state.optimizer.rate_factor = rate_factor
            for key, tensor in tensors.items():
                tensor.copy_(before[key])
            for parameter in set(moments) - had_moments:
                del moments[parameter]


def step_of_the_loop(state: State, trial: Trial) -> list[float]:
    """Take a step, operation by operation, and return its loss and the norm of its gradient."""
    state.optimizer.zero_grad()
    loss: Loss = state.compute(trial.cells, trial.progress)
    loss.total.backward()
    norm = state.optimizer.gradient_norm()
    state.optimizer.scale_gradients(trial.factor)
    state.optimizer.step()
    return [loss.total.item(), norm]


def difference(state: State, expected: Outcome, found: Outcome) -> str | None:
    """Return what differs between two outcomes by more than rounding, or None."""
    precision = state.best.settings.precision
    close, norm = CLOSE[precision], max(expected.numbers[1::2])
    for number, (one, other) in enumerate(zip(expected.numbers, found.numbers, strict=True)):
        if not math.isclose(one, other, rel_tol=close):
            return f"{('loss', 'norm of the gradient')[number % 2]} ({other:g} in place of {one:g})"
    rounding = ROUNDING[precision] * norm
    for (kind, name), change in expected.changes.items():
        moment = expected.changes.get(("exp_avg", name))
        if kind == "weights":
            is_rounding = moment is None or float(moment.norm()) <= rounding
            floor = state.learning_rate * math.sqrt(change.numel()) * (1.0 if is_rounding else FLOOR)
        else:
            floor = {"exp_avg": rounding, "exp_avg_sq": rounding**2}.get(kind, FLOOR)
        apart = float((found.changes[kind, name] - change).norm())
        if not apart <= close * float(change.norm()) + floor:
            return f"change of {kind} {name}"
    return None


def _changing(state: State) -> Changes:
    tensors = {("weights", name): parameter.detach() for name, parameter in state.compute.named_parameters()}
    for name, parameter in state.compute.named_parameters():
        tensors |= {(kind, name): each for kind, each in state.optimizer.state.get(parameter, {}).items()}
    return tensors | {("buffer", name): buffer for name, buffer in state.compute.named_buffers()}
