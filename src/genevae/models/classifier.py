"""p(y | x) ∝ p(y) · exp(bound(x | y)): every conditional model is a classifier of its own conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.models.vae import VAE

__all__ = ["Calibration", "bounds_nc", "fit_temperature", "reconstructions_nc"]

N_PARTICLES = 4
MAX_CELLS = 2048


def _per_category(score: Callable[[Cells], Tensor], cells: Cells, field: str, codes: Sequence[int]) -> Tensor:
    """Score the same cells under some categories of a field, as many categories at once as memory allows."""
    at_once = max(1, MAX_CELLS // cells.n_cells)
    columns = []
    for some in torch.tensor(codes, device=cells.condition.size_n1.device).split(at_once):
        stacked = cells.repeat(len(some))
        asked = stacked.condition.replace(codes={field: some.repeat_interleave(cells.n_cells)})
        columns.append(score(stacked.given(asked)).view(len(some), cells.n_cells))
    return torch.cat(columns).T


@torch.no_grad()
def bounds_nc(model: VAE, cells: Cells, field: str, codes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return bound(x | y) of each cell under some categories y of a field, in nats.

    The same noise is used for every cell and category, so that their differences are not noise.

    Parameters
    ----------
    model
        In evaluation mode.
    cells
        A minibatch; its own codes of the field are ignored.
    field
        A categorical condition of the model.
    codes
        Of the categories to try, a column each.
    generator
        On the CPU, for the noise.
    """
    width = model.prior(cells.condition).mean.shape[-1] + (model.size is not None)
    noise_s1k = torch.randn(N_PARTICLES, 1, width, generator=generator).to(cells.condition.size_n1.device)
    return _per_category(lambda c: model.bound_n(c, noise_snk=noise_s1k), cells, field, codes)


@torch.no_grad()
def reconstructions_nc(model: VAE, cells: Cells, field: str, codes: Sequence[int]) -> Tensor:
    """Return log p(x | z̄, y) of each cell under some categories y, z̄ the posterior's mean under y.

    For a Gaussian likelihood this is, up to a constant, the squared error in units of each gene's variance.
    """

    def score(asked: Cells) -> Tensor:
        p = model.likelihood(model.posterior(asked).mean, model.sized(asked))
        return p.log_prob_n(asked.x, asked.condition.measured_ng)

    return _per_category(score, cells, field, codes)


@dataclass(frozen=True)
class Calibration:
    """How bounds become probabilities: p(y | x) = softmax((bound(x | y) + log p(y)) / T).

    Parameters
    ----------
    temperature
        T, fitted on validation cells; a bound overstates its differences, so that T is mostly above one.
    log_prior_c
        log p(y), the log share of each category among the training cells.
    code_c
        The codes of the categories that training cells had, which alone can be told; by default 0, 1, and so on.
    """

    temperature: float
    log_prior_c: tuple[float, ...]
    code_c: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Take the categories in order where their codes were not given."""
        if not self.code_c:
            object.__setattr__(self, "code_c", tuple(range(len(self.log_prior_c))))

    def probability_nc(self, score_nc: Tensor) -> Tensor:
        """Turn bounds into probabilities."""
        prior_c = torch.tensor(self.log_prior_c, device=score_nc.device, dtype=score_nc.dtype)
        return ((score_nc + prior_c) / self.temperature).softmax(-1)

    def to_json(self) -> dict[str, Any]:
        """Write it down."""
        return {"temperature": self.temperature, "log_prior": list(self.log_prior_c), "codes": list(self.code_c)}

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Calibration:
        """Read it back."""
        return cls(float(written["temperature"]), tuple(written["log_prior"]), tuple(written.get("codes", ())))


def fit_temperature(score_nc: Tensor, code_n: Tensor, log_prior_c: Sequence[float]) -> float:
    """Choose the temperature that gives the true categories the highest mean log-probability.

    A grid of 241 temperatures from 0.1 to 1,000, evenly spaced in their logarithm: the curve has one minimum, and a
    grid cannot diverge.

    References
    ----------
    Guo et al., ICML (2017).
    """
    logits_nc = score_nc.double() + torch.tensor(log_prior_c, dtype=torch.float64)
    temperatures = torch.logspace(-1, 3, 241, dtype=torch.float64)
    losses = [torch.nn.functional.cross_entropy(logits_nc / t, code_n).item() for t in temperatures]
    return float(temperatures[min(range(len(losses)), key=losses.__getitem__)])
