"""Settings: frozen dataclasses whose fields declare their range, and those of the training loop.

A setting has one name, one type and one range. Settings may be nested; :func:`flat` lists all of them by name, and
:func:`edit` changes them by name, from Python values or from the text of a command line.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeVar

from genevae.errors import RecipeError, nearest

__all__ = [
    "Precision", "Range", "Training", "check", "default_batch_size", "default_epochs", "edit", "flat", "setting",
]  # fmt: skip

Precision = Literal["float32", "bf16", "fp16"]
Config = TypeVar("Config")


@dataclass(frozen=True)
class Range:
    """The valid values of a number, or of each number of a tuple.

    >>> str(Range(at_least=0, below=1)), str(Range(above=0)), 1.0 in Range(at_least=0, below=1)
    ('from 0 to below 1', 'above 0', False)
    """

    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    at_most: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        lower = f"above {self.above:g}" if self.above is not None else f"{self.at_least:g}"
        if self.below is None and self.at_most is None:
            return lower if self.above is not None else f"{lower} or more"
        upper = f"below {self.below:g}" if self.below is not None else f"{self.at_most:g}"
        return f"{lower} and up to {upper}" if self.above is not None else f"from {lower} to {upper}"


def setting(default: Any, *, required: bool = False, **limits: float) -> Any:
    """Declare a field with a default and a range; a tuple that is ``required`` cannot be empty."""
    return field(default=default, metadata={"range": Range(**limits), "required": required})


def check(config: Any) -> None:
    """Check every field of a dataclass against its range, or its literal values.

    Raises
    ------
    RecipeError
        If a value is out of range; the message names the setting, its range and the value.
    """
    hints = typing.get_type_hints(type(config))
    for each in fields(config):
        value, hint = getattr(config, each.name), hints[each.name]
        if typing.get_origin(hint) is Literal and value not in typing.get_args(hint):
            raise RecipeError(f"{each.name} cannot be '{value}'. {nearest(str(value), typing.get_args(hint))}")
        limits = each.metadata.get("range")
        if limits is None or value is None:
            continue
        if isinstance(value, tuple) != (typing.get_origin(hint) is tuple):
            example = "a tuple, such as (128,)" if typing.get_origin(hint) is tuple else "a number"
            raise RecipeError(f"{each.name} must be {example}, not {value!r}.")
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(number, Real) for number in numbers):
            raise RecipeError(f"{each.name} must be {limits}, not {value!r}.")
        if each.metadata["required"] and not numbers:
            raise RecipeError(f"{each.name} needs one number at least.")
        if not all(number in limits for number in numbers):
            raise RecipeError(f"{each.name} must be {limits}, not {value}.")


def flat(config: Any) -> dict[str, Any]:
    """Return all settings by name, those of nested settings included."""
    named: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        named |= flat(value) if is_dataclass(value) else {each.name: value}
    return named


def edit(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return the same settings with some changed; names that are not among them are left out.

    Raises
    ------
    RecipeError
        If a value is not of its setting's type, or out of range.
    """
    hints = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for each in fields(config):  # type: ignore[arg-type]
        value = getattr(config, each.name)
        if is_dataclass(value):
            changes[each.name] = edit(value, settings)
        elif each.name in settings:
            changes[each.name] = _cast(each.name, settings[each.name], hints[each.name])
    return replace(config, **changes)  # type: ignore[type-var]


def _cast(name: str, value: Any, hint: Any) -> Any:
    """Convert a value, which may be text or a JSON list, to the type of a setting."""
    alternatives = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in alternatives:
        return None
    kind = next(k for k in alternatives if k is not type(None))
    try:
        return _CASTS.get(kind, lambda v: v)(value)
    except (TypeError, ValueError):
        raise RecipeError(f"The setting {name} cannot be '{value}': it is {_NAMES.get(kind, kind)}.") from None


def _bool(value: Any) -> bool:
    known = {"true": True, "false": False}
    if str(value).casefold() not in known:
        raise ValueError(value)
    return known[str(value).casefold()]


def _int(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError(value)
    return int(value)


def _ints(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        value = [part for part in value.replace(" ", "").split(",") if part]
    return tuple(map(_int, [value] if isinstance(value, Integral) else value))


_CASTS: dict[Any, Callable[[Any], Any]] = {int: _int, float: float, bool: _bool, tuple[int, ...]: _ints}
_NAMES = {int: "a whole number", float: "a number", bool: "true or false",
          tuple[int, ...]: "whole numbers with commas between them"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Training:
    """Numbers of the training loop.

    Parameters
    ----------
    epochs
        Passes over the training cells at most; by default :func:`default_epochs` of their number.
    typical_epochs
        That default where there are 1,000 to 4,000 training cells.
    cells_per_epoch
        Training cells in one epoch, drawn anew for each; all by default.
    batch_size
        Cells in one step; by default :func:`default_batch_size` of the number of training cells.
    learning_rate, weight_decay, epsilon
        Of Adam.
    learning_rate_decay
        Share of training, at its end, over which the learning rate falls to zero along half a cosine; 0 keeps it.
    clip
        Largest norm of the gradient.
    patience
        Epochs without a better validation loss after which training stops; 0 never stops early.
    plateau
        Epochs without a better validation loss after which the learning rate is halved; 0 never halves it.
    least_learning_rate
        The rate below which a plateau does not halve it further.
    target_loss
        Validation loss, in the objective's units, at which training stops.
    target_mse
        Mean squared error of validation cells (``validation_mse`` of the history) at which training stops, with the
        weights of that epoch: in the units of results, which are those of the table or log-normalised values.
    keep_best
        Whether to end with the weights of the best validation epoch instead of the last.
    fresh_norm
        Whether batch-norm statistics are estimated again before each validation, from training cells without dropout
        and masks, where an epoch has fewer than 100 steps; else, running averages of training are used.
    accumulate
        Minibatches in one step, whose gradients are added up, where a larger minibatch does not fit in memory.
    precision
        The numbers that the layers between expression and distributions compute with; weights, distributions and losses
        are always float32.
    """

    epochs: int | None = setting(None, at_least=1)
    typical_epochs: int = setting(30, at_least=1)
    cells_per_epoch: int | None = setting(None, at_least=2)
    batch_size: int | None = setting(None, at_least=2)
    learning_rate: float = setting(8e-3, above=0)
    learning_rate_decay: float = setting(0.5, at_least=0, at_most=1)
    weight_decay: float = setting(1e-6, at_least=0)
    epsilon: float = setting(1e-2, above=0)
    clip: float = setting(50.0, above=0)
    patience: int = setting(30, at_least=0)
    plateau: int = setting(12, at_least=0)
    least_learning_rate: float = setting(1e-6, at_least=0)
    target_loss: float | None = None
    target_mse: float | None = setting(None, above=0)
    keep_best: bool = True
    fresh_norm: bool = False
    accumulate: int = setting(1, at_least=1)
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    def n_epochs(self, n_cells: int) -> int:
        """Return the number of epochs for a number of training cells."""
        return self.epochs or default_epochs(n_cells, self.typical_epochs)

    def minibatch(self, n_cells: int) -> int:
        """Return the cells of a step for a number of training cells."""
        return self.batch_size or default_batch_size(n_cells)

    def rate_factor(self, step: int, n_steps: int) -> float:
        """Return what the learning rate is multiplied by at a step.

        >>> training = Training(learning_rate_decay=0.5)
        >>> [round(training.rate_factor(step, 100), 2) for step in (0, 50, 75, 100)]
        [1.0, 1.0, 0.5, 0.0]
        """
        falling = self.learning_rate_decay * n_steps
        done = 0.0 if falling == 0 else max(0.0, 1 - (n_steps - step) / falling)
        return (1 + math.cos(math.pi * done)) / 2


def default_epochs(n_cells: int, typical: int = 30) -> int:
    """Choose the number of epochs: ``typical`` for 1,000 to 4,000 training cells, more below, and fewer above.

    Fewer than 1,000 cells are passed over as often as 1,000 would be seen, at most 400 times; beyond 4,000 the number
    of epochs falls with the square root of the cells, to 10 at least. ``benchmarks/epochs.py`` shows what other numbers
    give.

    >>> [default_epochs(n) for n in (50, 500, 3_000, 16_000, 10_000_000)]
    [400, 60, 30, 15, 10]
    """
    if n_cells < 1_000:
        return max(typical, min(400, round(typical * 1_000 / n_cells)))
    return max(min(typical, 10), round(typical * min(1.0, math.sqrt(4_000 / n_cells))))


def default_batch_size(n_cells: int) -> int:
    """Choose the cells of a step: 128 from 2,000 training cells, 64 from 1,000 and 32 below.

    >>> [default_batch_size(n) for n in (500, 1_500, 100_000)]
    [32, 64, 128]
    """
    return 128 if n_cells >= 2_000 else 64 if n_cells >= 1_000 else 32
