"""`genevae classify`."""

from __future__ import annotations

from typing import Literal

import genevae as gv
from genevae.cli.options import Data, Force, Run, Table
from genevae.cli.table_output import require_table, save_table

__all__ = ["classify"]


def classify(
    run: Run,
    data: Data,
    *,
    out: Table,
    field: str,
    force: Force = False,
    method: Literal["posterior", "reconstruction"] = "posterior",
    threshold: float = 0.0,
    batch_size: int = 256,
    seed: int = 0,
) -> None:
    """Classify cells by a field that the model is conditioned on.

    Parameters
    ----------
    field
        The categorical condition to predict.
    method
        By calibrated posterior, or by best reconstruction: the largest log p(x | z̄, y), z̄ the posterior's mean.
    threshold
        Cells whose best probability is below this get the label "unknown".
    batch_size
        Cells in one step.
    seed
        Of the random draws.
    """
    require_table(out, force)
    model = gv.load(run)
    labels = gv.classify(model, data, field=field, method=method, threshold=threshold, batch_size=batch_size, seed=seed)
    save_table(labels, out)
