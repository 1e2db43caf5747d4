"""`genevae classify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import Data, Executor, Force, Into, Run, say, written
from genevae.cli.table_output import require_table, save_table
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.overwrite import require_free

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["classify"]

MOST_LABELS, FAR = 10, 0.99

Out = Annotated[
    Path | None,
    Parameter(help="The table to write: .csv, .tsv, .parquet or .json; or .npy, predicted and true labels."),
]


def classify(
    run: Run,
    data: Data,
    *,
    field: str | None = None,
    out: Out = None,
    into: Into = None,
    force: Force = False,
    method: Literal["stack", "posterior", "reconstruction"] = "stack",
    threshold: float = 0.0,
    batch_size: int = 256,
    seed: int = 0,
    executor: Executor = None,
) -> None:
    """Classify cells by a field that the model is conditioned on.

    Where the data have the field, its values are in the column true. The column set has the labels that are plausible:
    in 90 % of cells like those of training, the true one is among them. The column unknown is near one for cells unlike
    all labels. As .npy, the result is an array of texts, cells ×
    2: the predicted label, and the true one, which is empty where it is missing.

    Parameters
    ----------
    field
        The categorical condition to predict; by default the only one besides the technical batch.
    method
        By the stack: logistic regression, nearest training cells and the model's posterior, weighted. Or by the
        calibrated posterior alone, or by best reconstruction: the largest log p(x | z̄, y), z̄ the posterior's mean.
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
        into=into, overwrite=force, executor=executor,
    )  # fmt: skip
    for line in _summary(table, field or "Labels"):
        say(line)
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


def _summary(table: pd.DataFrame, field: str) -> list[str]:
    """Return the number of cells of each label, how sure and how right they are, and how many are plausible."""
    if table.empty:
        return []
    counts = table["label"].value_counts()
    probability = table.get("probability")
    sure = (
        ""
        if probability is None
        else f" Probability: median {probability.median():.2f}, below 0.5 in {(probability < 0.5).mean():.1%} of cells."
    )
    common = ", ".join(f"{label} {n:,}" for label, n in counts.head(MOST_LABELS).items())
    rest = f", and {len(counts) - MOST_LABELS} more" if len(counts) > MOST_LABELS else ""
    lines = [f"{field} of {len(table):,} cells: {common}{rest}.{sure}"]
    if "true" in table and (known := table["true"].notna()).any():
        right = (table["label"].astype(str) == table["true"].astype(str))[known].mean()
        lines.append(f"Right in {right:.1%} of the {known.sum():,} cells whose label the data have.")
    if "set" in table:
        from genevae.tasks.classify import SEPARATOR

        n_labels = table["set"].map(lambda each: len(each.split(SEPARATOR)) if each else 0)
        shares = [f"{share:.1%} {name}" for name, share in (("one", (n_labels == 1).mean()),
                  ("several", (n_labels > 1).mean()), ("none", (n_labels == 0).mean()))]  # fmt: skip
        far = (table["unknown"] > FAR).mean()
        lines.append(
            f"Plausible labels: {', '.join(shares)}. {far:.1%} of the cells are farther from every label than "
            f"{FAR:.0%} of the training cells are."
        )
    return lines


def _labels(table: pd.DataFrame) -> np.ndarray[tuple[int, int], np.dtype[np.str_]]:
    """Return the predicted and the true labels as texts, cells × 2."""
    import numpy as np
    import pandas as pd

    true = table["true"] if "true" in table else pd.Series("", index=table.index)
    return np.column_stack([table["label"].to_numpy(str), true.where(true.notna(), "").to_numpy(str)])
