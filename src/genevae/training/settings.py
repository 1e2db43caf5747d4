"""How long, how fast, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from genevae.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Precision", "Training", "default_epochs"]

Precision = Literal["float32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Numbers of the training loop.

    Parameters
    ----------
    epochs
        Passes over the training cells at most; by default :func:`default_epochs` of their number.
    cells_per_epoch
        Training cells in one epoch, drawn anew for each; all by default.
    batch_size
        Cells in one step.
    learning_rate, weight_decay, epsilon
        Of Adam.
    clip
        Largest norm of the gradient.
    patience
        Epochs without a better validation loss after which training stops; 0 never stops early.
    plateau
        Epochs without a better validation loss after which the learning rate is halved; 0 never halves it.
    target_loss
        Validation loss, in the objective's units, at which training stops.
    keep_best
        Whether to end with the weights of the best validation epoch, and not with the last.
    accumulate
        Minibatches in one step, whose gradients are added up: for more cells in a step than fit at once.
    precision
        The numbers that the layers between expression and distributions compute with; weights, distributions and losses
        are float32 whatever it is.
    """

    epochs: int | None = None
    cells_per_epoch: int | None = None
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    epsilon: float = 1e-2
    clip: float = 50.0
    patience: int = 30
    plateau: int = 12
    target_loss: float | None = None
    keep_best: bool = True
    accumulate: int = 1
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use."""
        for name, smallest in (
            ("epochs", 1),
            ("cells_per_epoch", 2),
            ("batch_size", 2),
            ("patience", 0),
            ("plateau", 0),
            ("accumulate", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise RecipeError(f"{name} must be {smallest} or more, not {value}.")
        if not self.weight_decay >= 0:
            raise RecipeError(f"weight_decay must be 0 or more, not {self.weight_decay}.")
        for name in ("learning_rate", "clip", "epsilon"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} must be above 0, not {getattr(self, name)}.")

    def parameter_groups(self, model: nn.Module, objective: nn.Module) -> Sequence[dict[str, Any]]:
        """Return all that is trained, in groups that may have numbers of their own, such as a weight decay."""
        return [{"params": [*model.parameters(), *objective.parameters()]}]


def default_epochs(n_cells: int) -> int:
    """Choose the number of epochs: 400 up to 20,000 cells, then fewer, so that all cells together stay 8 million.

    >>> [default_epochs(n) for n in (500, 20_000, 200_000, 10_000_000)]
    [400, 400, 40, 10]
    """
    return max(10, round(400 * min(1.0, 20_000 / n_cells)))
