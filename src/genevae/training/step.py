"""One step of the optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.nn.part import sharing
from genevae.objectives.objective import Loss
from genevae.training.state import State

__all__ = ["take_step"]


def take_step(state: State, minibatches: Sequence[Cells], clip: float) -> None:
    """Go down the gradient of the mean loss of all these cells, or skip the step where that is not finite.

    Parameters
    ----------
    state
        Of training; changed in place.
    minibatches
        The cells, in parts that are passed through the model one after the other. Each counts by its number of cells,
        so that the gradient of a loss that is a mean over cells is that of one large minibatch. What joins the cells
        of a minibatch – batch norm, or the comparison of its pairs – is still done within each part.
    clip
        Largest norm of the gradient.
    """
    parameters = state.parameters
    losses = state.ranks.add_up(_backward(state, minibatches), minibatches, parameters)
    state.scaler.unscale_(state.optimizer)
    norm = _gradient_norm(parameters)
    if math.isfinite(norm) and all(math.isfinite(loss.total.item()) for loss in losses):
        if norm > clip:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], clip / norm)
        state.scaler.step(state.optimizer)
        state.guard.passed()
        for cells, loss in zip(minibatches, losses, strict=True):
            state.under_way.means.add(cells.n_shared, {"loss": loss.total.detach(), **loss.terms})
    else:
        _skip(state, minibatches, losses)
    state.scaler.update()
    state.step += 1
    state.under_way.minibatches += len(minibatches)


def _backward(state: State, minibatches: Sequence[Cells]) -> list[Loss]:
    """Add up the gradients of all parts."""
    state.optimizer.zero_grad()
    n_cells = sum(cells.n_shared for cells in minibatches)
    losses = []
    for cells in minibatches:
        with sharing(cells):
            loss = state.objective(state.model, cells, state.progress)
        state.scaler.scale(loss.total * (cells.n_cells / n_cells)).backward()
        losses.append(loss)
    return losses


def _gradient_norm(parameters: list[Tensor]) -> float:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))


def _skip(state: State, minibatches: Sequence[Cells], losses: Sequence[Loss]) -> None:
    """Tell the guard; a gradient that only half precision has made too large is no fault of the cells."""
    broken = [pair for pair in zip(minibatches, losses, strict=True) if not math.isfinite(pair[1].total.item())]
    if not broken and state.scaler.is_enabled() and state.scaler.get_scale() > 1:
        state.guard.overflowed()
    else:
        state.guard.failed(*(broken or [(minibatches[-1], losses[-1])])[0])
