"""`genevae gene-embeddings`."""

from __future__ import annotations

import genevae as gv
from genevae.cli.options import Force, Out, Run, say

__all__ = ["gene_embeddings"]


def gene_embeddings(run: Run, *, out: Out, force: Force = False, neighbours: int = 50) -> None:
    """Embed genes: the decoder's vector of each, and the most similar genes.

    Parameters
    ----------
    neighbours
        Nearest genes whose similarity is kept; 0 keeps none.
    """
    gv.gene_embeddings(gv.load(run), neighbours=neighbours, out=out, overwrite=force)
    say(f"Wrote {out}")
