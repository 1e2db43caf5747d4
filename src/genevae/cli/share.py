"""`genevae share`."""

from __future__ import annotations

from pathlib import Path

import genevae as gv
from genevae.cli.options import Force, Run, say

__all__ = ["share"]


def share(run: Run, *, out: Path, force: Force = False) -> None:
    """Write a folder of a model for others: without cells, paths or host, and with a model card.

    Parameters
    ----------
    out
        The folder to write.
    """
    folder = gv.share(run, out, overwrite=force)
    n_bytes = sum(file.stat().st_size for file in folder.iterdir())
    say(
        f"Wrote {folder} ({n_bytes / 1e6:.1f} MB): no cells, no names of cells, no paths.",
        "README.md in it is its model card.",
        "Names of genes and categories are in it. Put the folder on a web server or a hub; others open its address:",
        '  gv.load("https://…")',
    )
