"""Where the real data are."""

from __future__ import annotations

import os
from pathlib import Path

from anndata import AnnData

import genevae as gv

__all__ = ["folder", "kang"]


def folder() -> Path:
    """Return the folder of the data sets: GENEVAE_DATA, or shared/data beside the checkout."""
    here = Path(__file__).resolve().parents[1]
    return Path(os.environ.get("GENEVAE_DATA", here.parent / "shared" / "data"))


def kang() -> AnnData:
    """Read Kang et al. 2018 (GSE96583): 4,856 blood cells, untreated and with interferon β, eight donors and more."""
    return gv.read(folder() / "kang_merged.h5ad")
