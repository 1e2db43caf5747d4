"""`genevae denoise`."""

from __future__ import annotations

import genevae as gv
from genevae.cli.options import Data, Executor, Force, Into, OutOrInto, Run, say, written

__all__ = ["denoise"]


def denoise(
    run: Run,
    data: Data,
    *,
    out: OutOrInto = None,
    into: Into = None,
    force: Force = False,
    size: float | None = None,
    average_batches: bool = False,
    n_draws: int = 10,
    batch_size: int = 512,
    seed: int = 0,
    executor: Executor = None,
) -> None:
    """Denoise cells: E[x | z, c], averaged over q(z | x, c).

    Parameters
    ----------
    size
        Give every cell this many counts; by default each keeps its own.
    average_batches
        Average over all technical batches, as if each cell had been measured in every one.
    n_draws
        Draws from the posterior of each cell.
    batch_size
        Cells in one step.
    seed
        Of the random draws.
    """
    path = written(out, into)
    gv.denoise(
        gv.load(run), data, size=size, average_batches=average_batches, n_draws=n_draws, batch_size=batch_size,
        seed=seed, out=out, into=into, overwrite=force, executor=executor,
    )  # fmt: skip
    say(f"Wrote {path}")
