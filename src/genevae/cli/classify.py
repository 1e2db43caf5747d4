"""`genevae classify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import Data, Force, Into, Run, say, written
from genevae.cli.table_output import require_table, save_table
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.overwrite import require_free

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["classify"]

Out = Annotated[
    Path | None, Parameter(help="The table to write: .csv, .tsv or .json; or .npy, predicted and true labels.")
]


def classify(
    run: Run,
    data: Data,
    *,
    field: str,
    out: Out = None,
    into: Into = None,
    force: Force = False,
    method: Literal["posterior", "reconstruction"] = "posterior",
    threshold: float = 0.0,
    batch_size: int = 256,
    seed: int = 0,
) -> None:
    """Classify cells by a field that the model is conditioned on.

    Where the data have the field, its values are in the column true. As .npy, the result is an array of texts, cells ×
    2: the predicted label, and the true one, which is empty where it is missing.

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
    from genevae.tasks.output import require_writable

    path = written(out, into)
    if into is not None or out is None:
        require_writable(out, force, run, data, into=into)
    elif out.suffix == ".npy":
        require_free(out, force, [run, data])
    else:
        require_table(out, force, run, data)
    table = gv.classify(
        gv.load(run), data, field=field, method=method, threshold=threshold, batch_size=batch_size, seed=seed,
        into=into, overwrite=force,
    )  # fmt: skip
    if out is None:
        say(f"Wrote {path}")
        return
    if out.suffix != ".npy":
        save_table(table, out)
        return
    import numpy as np

    with staging_folder(out) as folder:
        np.save(folder / out.name, _labels(table), allow_pickle=False)
        replace_with(folder / out.name, out)
    say(f"Wrote {out}")


def _labels(table: pd.DataFrame) -> np.ndarray[tuple[int, int], np.dtype[np.str_]]:
    """Return the predicted and the true labels as texts, cells × 2."""
    import numpy as np
    import pandas as pd

    true = table["true"] if "true" in table else pd.Series("", index=table.index)
    return np.column_stack([table["label"].to_numpy(str), true.where(true.notna(), "").to_numpy(str)])
