"""`genevae embed`."""

from __future__ import annotations

import genevae as gv
from genevae.cli.options import Data, Force, Into, OutOrInto, Run, say, written

__all__ = ["embed"]


def embed(
    run: Run, data: Data, *, out: OutOrInto = None, into: Into = None, force: Force = False, batch_size: int = 512
) -> None:
    """Embed cells: the mean and standard deviation of q(z | x, c).

    Parameters
    ----------
    batch_size
        Cells in one step.
    """
    path = written(out, into)
    gv.embed(gv.load(run), data, batch_size=batch_size, out=out, into=into, overwrite=force)
    say(f"Wrote {path}")
