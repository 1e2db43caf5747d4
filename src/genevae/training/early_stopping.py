"""The best weights so far, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genevae.errors import TrainingError
from genevae.training.settings import Training

__all__ = ["Best", "copy_weights"]


def copy_weights(*modules: nn.Module) -> list[dict[str, Tensor]]:
    """Copy the state of some modules."""
    return [{name: tensor.detach().clone() for name, tensor in m.state_dict().items()} for m in modules]


@dataclass
class Best:
    """Keep the weights with the lowest validation loss.

    Parameters
    ----------
    modules
        Whose weights.
    settings
        When to stop.
    """

    modules: tuple[nn.Module, ...]
    settings: Training
    loss: float = math.inf
    epoch: int = 0
    waited: int = 0
    reached: bool = False

    def __post_init__(self) -> None:
        self.weights = copy_weights(*self.modules)

    def update(self, epoch: int, loss: float, settled: bool, mse: float | None = None) -> None:
        """Add an epoch's validation loss; patience counts only once every schedule has settled.

        Parameters
        ----------
        epoch, loss
            The epoch, from zero, and its validation loss.
        settled
            Whether schedules are at their targets.
        mse
            The mean squared error of validation cells, where there is one; at its target, these weights are the best.

        Raises
        ------
        TrainingError
            If training is to stop at an error that nothing measures.
        """
        if (target := self.settings.target_mse) is not None:
            if mse is None:
                raise TrainingError(
                    "target_mse needs validation cells, and a recipe whose history has validation_mse. Leave out the "
                    "setting, or give a share of validation cells."
                )
            self.reached = mse <= target
        if loss < self.loss or self.reached:
            self.loss, self.epoch, self.waited = loss, epoch, 0
            self.weights = copy_weights(*self.modules)
        elif settled:
            self.waited += 1

    def stop_reason(self) -> str | None:
        """Return why training should end, or None."""
        target, patience = self.settings.target_loss, self.settings.patience
        if self.reached:
            return f"the mean squared error of validation cells reached its target of {self.settings.target_mse:g}"
        if target is not None and self.loss <= target:
            return f"the validation loss reached its target of {target:g}"
        if patience and self.waited >= patience:
            return f"the validation loss did not improve for {patience} epochs"
        return None

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back."""
        for module, weights in zip(self.modules, self.weights, strict=True):
            module.load_state_dict(weights)
