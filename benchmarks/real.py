"""Where the real data are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from anndata import AnnData

import genevae as gv

__all__ = ["enough", "folder", "kang", "of"]


def folder() -> Path:
    """Return the folder of the data sets: GENEVAE_DATA, or shared/data beside the checkout."""
    here = Path(__file__).resolve().parents[1]
    return Path(os.environ.get("GENEVAE_DATA", here.parent / "shared" / "data"))


def kang() -> AnnData:
    """Read Kang et al. 2018 (GSE96583): 4,856 blood cells, untreated and with interferon β, eight donors and more."""
    return gv.read(folder() / "kang_merged.h5ad")


def of(adata: AnnData, kind: str, condition: str) -> np.ndarray:
    """Say which cells of Kang et al. are of one type in one condition."""
    return ((adata.obs["cell_type"] == kind) & (adata.obs["condition"] == condition)).to_numpy()


def enough(adata: AnnData) -> list[str]:
    """Return the types with 80 cells in either condition, so that their shifts are not noise."""
    kinds = adata.obs["cell_type"].unique()
    return [kind for kind in kinds if all(of(adata, kind, c).sum() >= 80 for c in ("ctrl", "stim"))]
