"""System B at its full size, for thousands of samples."""

from __future__ import annotations

from dataclasses import dataclass

from genevae.recipes.bulk import Bulk

__all__ = ["BulkLarge"]


@dataclass(frozen=True, kw_only=True)
class BulkLarge(Bulk):
    """As bulk, with five hidden layers 4096-2048-1024-512-256: as trained on 20,000 genes of 17,000 samples."""

    n_latent: int = 128
    hidden: tuple[int, ...] = (4096, 2048, 1024, 512, 256)
    batch_size: int = 128
