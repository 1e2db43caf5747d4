"""`genevae generate`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import Executor, FieldValues, Force, Out, Run, assignments, say, target

__all__ = ["generate"]


def generate(
    run: Run,
    n: int = 1000,
    *,
    out: Out,
    force: Force = False,
    condition: Annotated[FieldValues | None, Parameter(name=("--set", "--condition"))] = None,
    per_category: FieldValues | None = None,
    latent: Literal["mixture", "aggregate", "prior"] = "mixture",
    copula: bool = True,
    size: float | None = None,
    mean: bool = False,
    batch_size: int = 512,
    seed: int = 0,
    executor: Executor = None,
) -> None:
    """Generate cells of some conditions.

    Parameters
    ----------
    n
        Cells of each condition.
    condition
        The condition, as FIELD=VALUE; all combinations, where a field has several values.
    per_category
        Cells of every category of a field, as FIELD=N, instead of n; other fields may be set too.
    latent
        Draw z and the size from the mixture of normal distributions of clusters of training cells; z from the posterior
        of a training cell, so that all draws follow the aggregate posterior; or from the prior.
    copula
        Replace the values of each gene by those of training cells of the same rank.
    size
        Counts per cell; by default sampled with the latent.
    mean
        Write the expected expression of each cell instead of a sample.
    batch_size
        Cells in one step.
    seed
        Of the random draws.
    """
    made = gv.generate(
        gv.load(run), n=n, condition=target(condition), per_category=assignments(per_category), latent=latent,
        copula=copula, size=size, mean=mean, batch_size=batch_size, seed=seed, out=out, overwrite=force,
        executor=executor,
    )  # fmt: skip
    note = made.uns["genevae"].get("note")
    say(*([f"Note: {note}"] if note else []), f"Wrote {out}")
