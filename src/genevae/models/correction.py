"""Linear correction of a latent for the technical batch, cluster by cluster."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

__all__ = ["Correction"]

MOST_CLUSTERS, CELLS_PER_CLUSTER = 100, 30
ROUNDS = 10
"""Of clustering and correcting in turn."""
BLOCKS = 20
"""Parts of the cells that are assigned one after the other, each in view of the others."""
SOFTNESS = 0.1
"""σ of soft k-means: 2 · (1 − cosine) is divided by it."""
DIVERSITY = 2.0
"""θ: how strongly clusters avoid cells of batches that they already have more of than their share."""
RIDGE = 1.0
"""λ: cells with an offset of zero that each batch has more in each cluster."""


@dataclass(frozen=True)
class Correction:
    """z − Σ_c r_c · offset_cb: soft clusters c that hold cells of all batches b, each with an offset of each batch.

    A cell of batch b belongs to cluster c with r_c ∝ exp(−2 · (1 − cos(z, centre_c + offset_cb)) / σ) · preference_cb:
    cells are compared with where the cluster is in their own batch. So new cells of known batches are corrected as the
    cells that this was fitted to.

    Parameters
    ----------
    middle_k
        The mean latent, from which angles are measured.
    centre_ck
        Each cluster without its offsets.
    offset_cbk
        What each batch adds in each cluster; zero for a batch without cells.
    log_preference_cb
        θ · log(expected / observed cells of each batch in each cluster).

    References
    ----------
    Korsunsky et al., Nature Methods 16:1289 (2019), for soft clusters with a penalty for lack of diversity, and a ridge
    regression on the batch in each.
    """

    middle_k: Tensor
    centre_ck: Tensor
    offset_cbk: Tensor
    log_preference_cb: Tensor

    @classmethod
    def fit(cls, z_nk: Tensor, code_n: Tensor, n_batches: int, seed: int = 0) -> Self | None:
        """Fit to cells of two batches or more; None where there are fewer, or hardly any cells.

        Parameters
        ----------
        z_nk
            Latents.
        code_n
            The batch of each cell; cells whose code is ``n_batches`` or more are of an unknown batch, and left out.
        n_batches
            Number of batches.
        seed
            Of the first clusters, and of the order of cells.
        """
        known_n = code_n < n_batches
        z_nk, code_n = z_nk[known_n].double(), code_n[known_n]
        n_clusters = min(MOST_CLUSTERS, len(z_nk) // CELLS_PER_CLUSTER)
        if n_clusters < 1 or len(code_n.unique()) < 2:
            return None
        middle_k = z_nk.mean(0)
        z_nk = z_nk - middle_k
        share_b = torch.bincount(code_n, minlength=n_batches) / len(code_n)
        generator = torch.Generator().manual_seed(seed)

        # Start from hard clusters; then assign, and correct all cells by what is left of the batch, in turn.
        corrected_nk, r_nc = z_nk, _first_clusters(_unit(z_nk), n_clusters, seed)
        for _ in range(ROUNDS):
            unit_nk = _unit(corrected_nk)
            distance_nc = 2 * (1 - unit_nk @ _unit(r_nc.T @ unit_nk).T)
            log_preference_cb = _assign(r_nc, distance_nc, code_n, share_b, generator)
            centre_ck, offset_cbk = _ridge(z_nk, r_nc, code_n, n_batches)
            corrected_nk = _without(offset_cbk, z_nk, r_nc, code_n)
        return cls(*(t.float().contiguous() for t in (middle_k, centre_ck, offset_cbk, log_preference_cb)))

    @property
    def known_b(self) -> Tensor:
        """Whether there were cells of each batch."""
        return (self.offset_cbk != 0).flatten(2).any(-1).any(0)

    def covers(self, code_n: Tensor) -> Tensor:
        """Return whether the batch of each cell was among those that this was fitted to."""
        return torch.nn.functional.pad(self.known_b, (0, 1))[code_n.clamp(max=len(self.known_b))]

    def __call__(self, z_nk: Tensor, code_n: Tensor) -> Tensor:
        """Return corrected latents; those of cells of other batches are unchanged."""
        code_n = code_n.where(self.covers(code_n), -1)
        from_middle_nk = z_nk - self.middle_k
        r_nc = z_nk.new_zeros(len(z_nk), len(self.centre_ck))
        for b, row_m in _rows_by_batch(code_n):
            expected_ck = _unit(self.centre_ck + self.offset_cbk[:, b])
            distance_mc = 2 * (1 - _unit(from_middle_nk[row_m]) @ expected_ck.T)
            r_nc[row_m] = (self.log_preference_cb[:, b] - distance_mc / SOFTNESS).softmax(-1)
        return _without(self.offset_cbk, z_nk, r_nc, code_n)

    def with_batches(self, z_nk: Tensor, code_n: Tensor, n_batches: int) -> Self:
        """Return the correction with offsets of further batches, in the clusters as they are.

        Cells and offsets are fitted in turn, r_c ∝ exp(−2 · (1 − cos(z, centre_c + offset_cb)) / σ) and
        offset_cb = Σₙ r_nc (z − centre_c) / (Σₙ r_nc + λ); the offsets of batches that had some stay as they are.

        Parameters
        ----------
        z_nk, code_n
            Latents and batches of cells; those of known batches are left out.
        n_batches
            Number of batches, those of this correction first.
        """
        more = n_batches - len(self.known_b)
        offset_cbk = torch.nn.functional.pad(self.offset_cbk, (0, 0, 0, more))
        log_preference_cb = torch.nn.functional.pad(self.log_preference_cb, (0, more))
        known_b = torch.nn.functional.pad(self.known_b, (0, more))
        for b, row_m in _rows_by_batch(code_n):
            if b >= n_batches or known_b[b]:
                continue
            from_middle_mk, offset_ck = z_nk[row_m] - self.middle_k, torch.zeros_like(self.centre_ck)
            for _ in range(ROUNDS):
                distance_mc = 2 * (1 - _unit(from_middle_mk) @ _unit(self.centre_ck + offset_ck).T)
                r_mc = (-distance_mc / SOFTNESS).softmax(-1)
                n_c1 = r_mc.sum(0).unsqueeze(-1)
                offset_ck = (r_mc.T @ from_middle_mk - n_c1 * self.centre_ck) / (n_c1 + RIDGE)
            offset_cbk[:, b] = offset_ck
        return replace(self, offset_cbk=offset_cbk, log_preference_cb=log_preference_cb)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return type(self)(**{name: tensor.to(device) for name, tensor in self.to_tensors().items()})

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the content as named tensors."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], n_batches: int, n_latent: int) -> Self:
        """Restore from named tensors.

        Raises
        ------
        ValueError
            If they are not those of a correction of so many batches and latent dimensions.
        """
        c = len(tensors.get("centre_ck", ()))
        shapes = {
            "middle_k": (n_latent,), "centre_ck": (c, n_latent), "offset_cbk": (c, n_batches, n_latent),
            "log_preference_cb": (c, n_batches),
        }  # fmt: skip
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if found != shapes or not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise ValueError(f"The correction of the latent has tensors of the shapes {found}, and needs {shapes}.")
        return cls(**tensors)


def _unit(x_nk: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x_nk, dim=-1)


def _first_clusters(unit_nk: Tensor, n_clusters: int, seed: int) -> Tensor:
    """Return the memberships of k-means, each zero or one."""
    from sklearn.cluster import KMeans

    with warnings.catch_warnings():  # equal cells may leave clusters empty, which does no harm here
        warnings.simplefilter("ignore")
        label_n = KMeans(n_clusters, n_init=1, random_state=seed).fit_predict(unit_nk.numpy())
    return torch.nn.functional.one_hot(torch.from_numpy(label_n).long(), n_clusters).to(unit_nk)


def _rows_by_batch(code_n: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each batch that there is, with the rows of its cells; codes below zero are no batch."""
    for b in code_n.unique().tolist():
        if b >= 0:
            yield b, (code_n == b).nonzero().squeeze(-1)


def _assign(r_nc: Tensor, distance_nc: Tensor, code_n: Tensor, share_b: Tensor, generator: torch.Generator) -> Tensor:
    """Change memberships, block by block, to ∝ exp(−distance / σ) · (expected / observed)^θ of the other cells.

    Returns θ · log(expected / observed), of all cells.
    """
    observed_bc = r_nc.new_zeros(len(share_b), r_nc.shape[1]).index_add_(0, code_n, r_nc)

    def log_preference_bc() -> Tensor:
        expected_bc = share_b[:, None].to(r_nc) * observed_bc.sum(0)
        preference_bc: Tensor = (expected_bc + 1) / (observed_bc + 1)
        return DIVERSITY * preference_bc.log()

    for row_m in torch.randperm(len(r_nc), generator=generator).chunk(BLOCKS):
        observed_bc.index_add_(0, code_n[row_m], r_nc[row_m], alpha=-1)
        r_nc[row_m] = (log_preference_bc()[code_n[row_m]] - distance_nc[row_m] / SOFTNESS).softmax(-1)
        observed_bc.index_add_(0, code_n[row_m], r_nc[row_m])
    return log_preference_bc().T


def _ridge(z_nk: Tensor, r_nc: Tensor, code_n: Tensor, n_batches: int) -> tuple[Tensor, Tensor]:
    """Return argmin Σₙ r_nc · |z − centre_c − offset_cb|² + λ · Σ_b |offset_cb|² of each cluster.

    With m the mean and n the cells of a batch in a cluster, offset = n / (n + λ) · (m − centre), and the centre is the
    mean of the m, weighted by n / (n + λ).
    """
    n_cb = r_nc.new_zeros(r_nc.shape[1], n_batches)
    mean_cbk = z_nk.new_zeros(*n_cb.shape, z_nk.shape[1])
    for b, row_m in _rows_by_batch(code_n):
        n_cb[:, b] = r_nc[row_m].sum(0)
        mean_cbk[:, b] = r_nc[row_m].T @ z_nk[row_m] / n_cb[:, b, None].clamp(min=1e-12)
    shrunk_cb1 = (n_cb / (n_cb + RIDGE)).unsqueeze(-1)
    centre_ck = (shrunk_cb1 * mean_cbk).sum(1) / shrunk_cb1.sum(1).clamp(min=1e-12)
    return centre_ck, shrunk_cb1 * (mean_cbk - centre_ck.unsqueeze(1))


def _without(offset_cbk: Tensor, z_nk: Tensor, r_nc: Tensor, code_n: Tensor) -> Tensor:
    """Return z − Σ_c r_nc · offset_cb."""
    corrected_nk = z_nk.clone()
    for b, row_m in _rows_by_batch(code_n):
        corrected_nk[row_m] -= r_nc[row_m] @ offset_cbk[:, b]
    return corrected_nk
