"""Where the real data are."""

from __future__ import annotations

import os
from pathlib import Path

from anndata import AnnData

import genevae as gv

__all__ = ["kang"]


def kang() -> AnnData:
    """Read Kang et al. 2018 (GSE96583): 4,856 blood cells, untreated and with interferon β, eight donors and more."""
    here = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("GENEVAE_DATA", here.parent / "shared" / "data"))
    return gv.read(folder / "kang_merged.h5ad")
