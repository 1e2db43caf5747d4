"""The size of a cell as a latent variable."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from genevae.cells import Cells, Condition

__all__ = ["LearnedSize"]


class LearnedSize(nn.Module):
    """log size as a latent variable: a normal posterior given the cell, and a normal prior per technical batch.

    Parameters
    ----------
    posterior
        Returns q(log size | x, c), of ``(n, 1)``.
    mean_b, scale_b
        Mean and standard deviation of the log of the observed sizes in each technical batch.
    batch
        The field of the technical batch; None puts all cells into one batch.

    References
    ----------
    Lopez et al., Nature Methods 15:1053 (2018), the scaling factor ℓ.
    """

    mean_b: Tensor
    scale_b: Tensor

    def __init__(self, posterior: nn.Module, mean_b: Tensor, scale_b: Tensor, batch: str | None) -> None:
        super().__init__()
        self._posterior = posterior
        self.batch = batch
        self.register_buffer("mean_b", mean_b)
        self.register_buffer("scale_b", scale_b)

    def fit(self, minibatches: Iterable[Cells]) -> None:
        """Fit the prior to the observed sizes."""
        logs, codes = zip(
            *((c.condition.size_n1.squeeze(-1).log(), self._batch(c.condition)) for c in minibatches), strict=True
        )
        log_n, code_n = torch.cat(logs), torch.cat(codes)
        self.mean_b[:], self.scale_b[:] = (
            log_n.mean(),
            log_n.std().clamp(min=0.01),
        )  # for batches with fewer than two cells
        for b in range(len(self.mean_b)):
            log_size = log_n[code_n == b]
            if len(log_size) > 1:
                self.mean_b[b], self.scale_b[b] = log_size.mean(), log_size.std().clamp(min=0.01)

    def posterior(self, cells: Cells) -> Normal:
        """Return q(log size | x, c), of ``(n, 1)``."""
        q: Normal = self._posterior(cells)
        return q

    def prior(self, condition: Condition) -> Normal:
        """Return p(log size | batch), of ``(n, 1)``."""
        codes = self._batch(condition)
        return Normal(self.mean_b[codes].unsqueeze(-1), self.scale_b[codes].unsqueeze(-1), validate_args=False)

    def _batch(self, condition: Condition) -> Tensor:
        if self.batch is None:
            return torch.zeros(condition.n_cells, dtype=torch.int64, device=condition.size_n1.device)
        return condition.codes[self.batch]
