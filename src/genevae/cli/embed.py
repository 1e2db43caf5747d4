"""`genevae embed`."""

from __future__ import annotations

import genevae as gv
from genevae.cli.options import Data, Force, Out, Run, say

__all__ = ["embed"]


def embed(run: Run, data: Data, *, out: Out, force: Force = False, batch_size: int = 512) -> None:
    """Embed cells: the mean and standard deviation of q(z | x, c).

    Parameters
    ----------
    batch_size
        Cells in one step.
    """
    gv.embed(gv.load(run), data, batch_size=batch_size, out=out, overwrite=force)
    say(f"Wrote {out}")
