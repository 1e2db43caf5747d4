"""`genevae explore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import DataIfAny, Force, OptionalData, Run, say

__all__ = ["explore"]


def explore(
    run: Run,
    data: OptionalData = DataIfAny(),  # noqa: B008 - it is frozen
    *,
    out: Path,
    force: Force = False,
    projection: Annotated[Literal["pca", "umap", "tsne"], Parameter(name=("--map", "--projection"))] = "pca",
    cells: int = 20_000,
    gene_sets: Path | None = None,
    interval: float = 0.9,
    seed: int = 0,
) -> None:
    """Write a page that runs the model in any browser: choose cells, set conditions, see what changes.

    It is one file, which needs no network and can be mailed. Without data, its map has training cells that the model
    keeps, and there are no answers with intervals.

    Parameters
    ----------
    out
        The page to write: .html.
    projection
        How the latent becomes a map: pca; or umap or tsne, which take longer.
    cells
        Cells of the map, sampled where there are more.
    gene_sets
        A GMT file of gene sets.
    interval
        Share of the intervals that hold the change that would be measured.
    seed
        Of the sample and the map.
    """
    page = gv.explore(
        gv.load(run), data if data.path else None, out=out, projection=projection, cells=cells, gene_sets=gene_sets,
        interval=interval, seed=seed, overwrite=force,
    )  # fmt: skip
    say(f"Wrote {page} ({page.stat().st_size / 1e6:.1f} MB): open it in any browser; it needs no network.")
    if not data.path:
        say(f"It has no answers with intervals. For those, give the data too: genevae explore {run} DATA --out {out}")
