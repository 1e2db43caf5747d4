"""`genevae embed`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import Data, Executor, Force, Into, OutOrInto, Run, say, written

__all__ = ["embed"]


def embed(
    run: Run,
    data: Data,
    *,
    out: OutOrInto = None,
    into: Into = None,
    force: Force = False,
    correct: Annotated[bool | None, Parameter(negative=None)] = None,
    batch_size: int = 512,
    executor: Executor = None,
) -> None:
    """Embed cells: the mean and standard deviation of q(z | x, c).

    Parameters
    ----------
    correct
        Correct the mean for the technical batch; by default where the recipe integrates batches, as adversarial does.
    batch_size
        Cells in one step.
    """
    path = written(out, into)
    gv.embed(
        gv.load(run),
        data,
        correct=correct,
        batch_size=batch_size,
        out=out,
        into=into,
        overwrite=force,
        executor=executor,
    )
    say(f"Wrote {path}")
