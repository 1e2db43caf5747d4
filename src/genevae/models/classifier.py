"""Bayes classification with a conditional model: p(y | x) ∝ p(y) · exp(bound(x | y))."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.models.vae import VAE

__all__ = ["MAX_CELLS", "Calibration", "bounds_nc", "fit_temperature", "reconstructions_nc"]

N_PARTICLES = 4
MAX_CELLS = 2048
"""Cells × categories that are scored at once."""


def _per_category(score: Callable[[Cells], Tensor], cells: Cells, field: str, codes: Sequence[int]) -> Tensor:
    """Score the same cells under each category of a field, in blocks of categories that fit in memory."""
    block_size = max(1, MAX_CELLS // cells.n_cells)
    columns = []
    for block in torch.tensor(codes, device=cells.condition.size_n1.device).split(block_size):
        repeated = cells.repeat(len(block))
        condition = repeated.condition.replace(codes={field: block.repeat_interleave(cells.n_cells)})
        columns.append(score(repeated.given(condition)).view(len(block), cells.n_cells))
    return torch.cat(columns).T


@torch.no_grad()
def bounds_nc(model: VAE, cells: Cells, field: str, codes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return bound(x | y) of each cell under categories y of a field, in nats.

    All cells and categories share the same noise, so that their differences do not depend on it.

    Parameters
    ----------
    model
        A model in evaluation mode.
    cells
        A minibatch. Its codes of the field are ignored.
    field
        A categorical condition of the model.
    codes
        Codes of the categories, one column each.
    generator
        Generator of the noise, on the CPU.
    """
    width = model.prior(cells.condition).mean.shape[-1] + (model.size is not None)
    noise_s1k = torch.randn(N_PARTICLES, 1, width, generator=generator).to(cells.condition.size_n1.device)
    return _per_category(lambda c: model.bound_n(c, noise_snk=noise_s1k), cells, field, codes)


@torch.no_grad()
def reconstructions_nc(model: VAE, cells: Cells, field: str, codes: Sequence[int]) -> Tensor:
    """Return log p(x | z̄, y) of each cell under categories y of a field, with z̄ the posterior mean under y.

    For a Gaussian likelihood this is, up to a constant, minus half the squared error in units of each gene's variance.
    """

    def score(cells: Cells) -> Tensor:
        p = model.likelihood(model.posterior(cells).mean, model.sized(cells))
        return p.log_prob_n(cells.x, cells.condition.measured_ng)

    return _per_category(score, cells, field, codes)


@dataclass(frozen=True)
class Calibration:
    """Conversion of bounds to probabilities: p(y | x) = softmax((bound(x | y) + log p(y)) / T).

    Parameters
    ----------
    temperature
        T, fitted on validation cells. Bounds exaggerate differences, so T is usually above one.
    log_prior_c
        log p(y): the log share of each category among the training cells.
    code_c
        Codes of the categories with training cells, which are the only ones to predict; by default 0, 1, and so on.
    """

    temperature: float
    log_prior_c: tuple[float, ...]
    code_c: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Set the default codes."""
        if not self.code_c:
            object.__setattr__(self, "code_c", tuple(range(len(self.log_prior_c))))

    def probability_nc(self, score_nc: Tensor) -> Tensor:
        """Return the probability of each category."""
        prior_c = torch.tensor(self.log_prior_c, device=score_nc.device, dtype=score_nc.dtype)
        return ((score_nc + prior_c) / self.temperature).softmax(-1)

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        return {"temperature": self.temperature, "log_prior": list(self.log_prior_c), "codes": list(self.code_c)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Calibration:
        """Restore from JSON values."""
        return cls(float(content["temperature"]), tuple(content["log_prior"]), tuple(content.get("codes", ())))


def fit_temperature(score_nc: Tensor, code_n: Tensor, log_prior_c: Sequence[float]) -> float:
    """Return the temperature that maximises the mean log-probability of the true categories.

    Searches 241 temperatures from 0.1 to 1,000, evenly spaced in the logarithm: the loss has one minimum, and a grid
    search cannot diverge.

    References
    ----------
    Guo et al., ICML (2017).
    """
    logits_nc = score_nc.double() + torch.tensor(log_prior_c, dtype=torch.float64)
    temperatures = torch.logspace(-1, 3, 241, dtype=torch.float64)
    losses = [torch.nn.functional.cross_entropy(logits_nc / t, code_n).item() for t in temperatures]
    return float(temperatures[min(range(len(losses)), key=losses.__getitem__)])
