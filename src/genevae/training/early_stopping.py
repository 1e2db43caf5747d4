"""The best weights so far, and whether to go on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genevae.training.settings import Training

__all__ = ["Best", "snapshot"]


def snapshot(*modules: nn.Module) -> list[dict[str, Tensor]]:
    """Copy the state of some modules."""
    return [{name: tensor.detach().clone() for name, tensor in m.state_dict().items()} for m in modules]


@dataclass
class Best:
    """Remember the weights with the lowest validation loss.

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

    def __post_init__(self) -> None:
        self.weights = snapshot(*self.modules)

    def see(self, epoch: int, loss: float, settled: bool) -> None:
        """Take note of an epoch's validation loss; patience runs only once every schedule has settled."""
        if loss < self.loss:
            self.loss, self.epoch, self.waited = loss, epoch, 0
            self.weights = snapshot(*self.modules)
        elif settled:
            self.waited += 1

    def verdict(self) -> str | None:
        """Say why training should end, or None."""
        target, patience = self.settings.target_loss, self.settings.patience
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
