"""A training step that is recorded once and replayed: on a GPU, one launch in place of hundreds.

There are two recordings: the first is the forward and the backward pass and the norm of the gradient, the second clips
and takes Adam's step. Between them the loss and the norm are read, so that a step that is not finite is skipped as any
other. What changes from step to step is in tensors: the minibatch, the weights of schedules, the learning rates and the
factor that clips. The last minibatch of an epoch, which is smaller, is not replayed.

A recording is used only after it has taken the same two steps as the loop, from the same weights and with the same
random numbers; else the loop continues without it, and a warning says so. Tests imitate a GPU.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from genevae.cells import Cells, ExpressionRows
from genevae.errors import warn
from genevae.objectives.objective import Loss, Progress
from genevae.objectives.schedules import Schedule
from genevae.training.graph_check import Trial, difference, outcome_of, put_back, step_of_the_loop, trials_of

if TYPE_CHECKING:
    from genevae.training.state import State

__all__ = ["Recorder", "recorder_on"]

BEFORE = 3
"""Steps of full minibatches that the loop takes before one is recorded: kernels are loaded, and Adam has its state."""

Made = TypeVar("Made")
Record = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]
"""Runs a function once, and returns what it made, and what makes it again in the same memory."""


def recorder_on(device: torch.device) -> Recorder:
    """Return a recorder for a device, and warn where there is none."""
    if device.type != "cuda":
        warn(f"CUDA graphs need an NVIDIA GPU, and the device is {device}: training is the same without them.")
        return Recorder()
    return Recorder(record_on_gpu)


def record_on_gpu(function: Callable[[], Made]) -> tuple[Made, Callable[[], None]]:
    """Record what a function does on a GPU as a CUDA graph; it is done when that is replayed, and not before."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        # torch's own stream may be of another device; another thread may pin minibatches meanwhile.
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
            made = function()
    finally:
        torch.cuda.set_stream(stream)  # torch stays on its own where recording fails
    return made, graph.replay


@dataclass(frozen=True)
class RecordedProgress(Progress):
    """Where training is, with the weights of schedules in tensors."""

    device: torch.device = torch.device("cpu")
    weights: dict[Schedule, Tensor] = field(default_factory=dict)

    def weight(self, schedule: Schedule) -> Tensor:
        """Return the tensor that holds the weight of a schedule."""
        if schedule not in self.weights:
            value = schedule(self.step, self.n_steps)
            self.weights[schedule] = torch.full((), value, device=self.device)
        return self.weights[schedule]

    def move_to(self, progress: Progress) -> None:
        """Let the tensors hold the weights of another step."""
        for schedule, weight in self.weights.items():
            weight.fill_(schedule(progress.step, progress.n_steps))


class Recorder:
    """Decides which steps are replayed, and records them; one for all trainings of a fit.

    Parameters
    ----------
    record
        How; None records nothing.
    """

    def __init__(self, record: Record | None = None) -> None:
        self.record = record
        self.forget()

    def forget(self) -> None:
        """Forget the recorded step, and its memory."""
        self._n_taken: Counter[int] = Counter()
        self._step: RecordedStep | None = None

    def step_of(self, state: State, minibatches: Sequence[Cells]) -> RecordedStep | None:
        """Return the recorded step for some minibatches, or None where the loop takes it."""
        if self.record is None:
            return None
        if (why := _why_not(state, minibatches)) is not None:
            self._give_up(why)
            return None
        (cells,) = minibatches
        if not _moments(state) or (self._step is not None and not self._step.is_of(state)):
            self.forget()  # training begins, or a return to earlier weights has cleared the state of Adam
            return None
        if self._step is None:
            self._n_taken[cells.n_cells] += 1
            if self._n_taken[cells.n_cells] >= BEFORE:
                self._step = self._checked(state, cells, self.record)
        return self._step if self._step is not None and self._step.cells.n_cells == cells.n_cells else None

    def _checked(self, state: State, cells: Cells, record: Record) -> RecordedStep | None:
        """Record a step, and return it if it does what the loop does."""
        random_numbers = torch.cuda.get_rng_state(state.device) if state.device.type == "cuda" else None
        try:
            trials = trials_of(state, cells)
            expected = outcome_of(state, trials, partial(step_of_the_loop, state))
            if not all(map(math.isfinite, expected.numbers)):
                return None  # these cells can show nothing, and later ones can
            with put_back(state):
                step = RecordedStep(state, cells, record)
            found = outcome_of(state, trials, step.trial)
        except Exception as error:  # noqa: BLE001 - recording fails in many ways, and none of them should end training
            if random_numbers is not None:
                _leave_capture(state.device, random_numbers)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._give_up(f"recording failed: {reason[:160]}")
            return None
        if (wrong := difference(state, expected, found)) is not None:
            self._give_up(f"a replayed step has another {wrong} than a step of the loop")
            return None
        return step

    def _give_up(self, why: str) -> None:
        warn(f"Training continues without CUDA graphs: {why}.")
        self.forget()
        self.record = None


class RecordedStep:
    """The step of a minibatch, in tensors that stay where they are.

    Parameters
    ----------
    state
        Of training.
    cells
        A minibatch. Its expression is made dense, because the number of stored entries differs between minibatches.
    record
        How a function is recorded.
    """

    def __init__(self, state: State, cells: Cells, record: Record) -> None:
        self.state = state
        self.cells = Cells(
            ExpressionRows.from_dense(cells.x.dense().clone()), cells.condition.map(torch.clone), cells.row_n.clone()
        )
        self.progress = RecordedProgress(state.step, state.n_steps, device=state.device)
        self.factor = torch.ones((), device=state.device)
        self.rates = [torch.full((), rate, device=state.device) for rate in _rates(state)]
        with _never_waiting(state.device):
            self._passes()  # loads kernels for dense rows, and makes the tensors of schedules
        if any(each.grad is not None and not state.optimizer.state.get(each) for each in state.parameters):
            raise RuntimeError("a weight has a gradient for the first time")  # a replay would begin its moments again
        state.optimizer.zero_grad()
        (self.loss, self.numbers), self._replay_passes = record(self._passes)
        self.gradients = [parameter.grad for parameter in state.parameters if parameter.grad is not None]
        _, self._replay_update = record(self._update)
        self._moments = _moments(state)

    def is_of(self, state: State) -> bool:
        """Whether Adam's state is still in the tensors that are recorded."""
        moments = _moments(state)
        return len(moments) == len(self._moments) and all(a is b for a, b in zip(moments, self._moments, strict=True))

    def gradient(self, cells: Cells, progress: Progress) -> tuple[list[Loss], float]:
        """Replay both passes; return the loss, read from the GPU with the norm of the gradient, and the norm."""
        _copy(cells, self.cells)
        self.progress.move_to(progress)
        self._replay_passes()
        total, norm = self.numbers.tolist()
        return [replace(self.loss, total=torch.tensor(total))], norm

    def update(self, factor: float) -> None:
        """Multiply the gradients by a factor, and replay Adam's step."""
        self.factor.fill_(factor)
        for tensor, rate in zip(self.rates, _rates(self.state), strict=True):
            tensor.fill_(rate)
        self._replay_update()

    def trial(self, trial: Trial) -> list[float]:
        """Take a step, and return its loss and the norm of its gradient."""
        (loss,), norm = self.gradient(trial.cells, trial.progress)
        self.update(trial.factor)
        return [loss.total.item(), norm]

    def _passes(self) -> tuple[Loss, Tensor]:
        loss: Loss = self.state.compute(self.cells, self.progress)
        loss.total.backward()
        gradients = [parameter.grad for parameter in self.state.parameters if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        total = loss.total.detach()
        return replace(loss, total=total), torch.stack([total, norm])

    def _update(self) -> None:
        torch._foreach_mul_(self.gradients, self.factor)
        self.state.optimizer.step_with(self.rates)


def _why_not(state: State, minibatches: Sequence[Cells]) -> str | None:
    """Return why a step cannot be recorded, or None."""
    if not state.objective.is_static:
        return "the objective of this recipe or its settings change from step to step"
    if not state.world.is_alone:
        return "several processes train together"
    if len(minibatches) > 1:
        return "a step has several minibatches (accumulate)"
    return "the precision is fp16" if state.scaler.is_enabled() else None


def _rates(state: State) -> list[float]:
    return [float(group["lr"]) * state.optimizer.rate_factor for group in state.optimizer.param_groups]


def _moments(state: State) -> list[Tensor]:
    return [tensor for parameter in state.parameters for tensor in state.optimizer.state.get(parameter, {}).values()]


def _copy(source: Cells, into: Cells) -> None:
    """Copy a minibatch into the tensors of another of the same size."""
    x_ng, values = into.x.values, source.x.values
    if source.x.is_sparse:
        x_ng.zero_().view(-1).scatter_(0, source.x.flat_e, values)
    else:
        x_ng.copy_(values)
    into.row_n.copy_(source.row_n)
    one, other = source.condition, into.condition
    other.size_n1.copy_(one.size_n1)
    for given, kept in ((one.codes, other.codes), (one.values, other.values)):
        for name, tensor in kept.items():
            tensor.copy_(given[name])
    if one.measured_ng is not None and other.measured_ng is not None:
        other.measured_ng.copy_(one.measured_ng)


@contextmanager
def _never_waiting(device: torch.device) -> Iterator[None]:
    """Raise where the host waits for a GPU, which a recording cannot."""
    if device.type != "cuda":
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _leave_capture(device: torch.device, random_numbers: Tensor) -> None:
    """Give a GPU another generator in the same state: after recording failed, its own is still being recorded."""
    other = torch.Generator(device)
    other.set_state(random_numbers)
    number = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.default_generators[number].graphsafe_set_state(other.graphsafe_get_state())
