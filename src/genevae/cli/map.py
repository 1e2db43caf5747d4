"""`genevae map`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import Data, Force, Run, names, say

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["map_query"]

LOW = 0.05
"""Support below which a cell is called unlike the reference."""


def map_query(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The folder to write: the mapped run, with the mapped cells as query.h5ad.")],
    batch: str | None = None,
    labels: Sequence[str] | None = None,
    threshold: float = 0.5,
    unknown_above: float = 0.99,
    fine_tune: bool = False,
    force: Force = False,
    batch_size: int = 512,
    seed: int = 0,
) -> None:
    """Map new cells to a trained model: learn what is new in them, keep all else, embed and label them.

    New technical batches get rows of their own in the model's embeddings, which are fitted to the query; the embedding
    of the reference does not change. The cells in OUT/query.h5ad have the latent in obsm, and in obs for each label
    FIELD_predicted, FIELD_probability and FIELD_unknown, and the support: near zero where no reference cell is similar.

    Parameters
    ----------
    batch
        The query's obs column of the technical batch; by default that of the model.
    labels
        The fields to predict; by default all labels of the model. The query's own values are not used.
    threshold
        Cells whose best probability is below this get the label "unknown".
    unknown_above
        Cells for which more than this share of the training cells is nearer to a label get the label "unknown".
    fine_tune
        Fit all weights to the query; the embedding of the reference then changes.
    batch_size
        Cells in one step of embedding and classifying.
    seed
        Of the order of cells and the noise.
    """
    found = gv.map_query(
        run, data, batch=batch, labels=names(labels) or None, threshold=threshold, unknown_above=unknown_above,
        fine_tune=fine_tune, batch_size=batch_size, seed=seed, out=out, overwrite=force,
    )  # fmt: skip
    for field, values in found.model.facts["mapped"]["new"].items():
        say(f"New in {field}: {', '.join(values)}.")
    for line in _summary(found.query.obs):
        say(line)
    say(f"Wrote {out}, a run that knows both, with the mapped cells as {out / 'query.h5ad'}")


def _summary(obs: pd.DataFrame) -> list[str]:
    """Return how many cells have each label, how many of those that are known are right, and the support."""
    lines = []
    for column in [name for name in obs if str(name).endswith("_predicted")]:
        field, label = str(column).removesuffix("_predicted"), obs[column].astype(str)
        common = ", ".join(f"{name} {n:,}" for name, n in label.value_counts().head(10).items())
        lines.append(f"{field} of {len(obs):,} cells: {common}.")
        if field in obs and (known := obs[field].notna() & (label != "unknown")).any():
            right = (label == obs[field].astype(str))[known].mean()
            lines.append(f"Right in {right:.1%} of the {known.sum():,} labelled cells whose {field} the data have.")
    low = (obs["support"] < LOW).mean()
    return [*lines, f"Support: median {obs['support'].median():.2f}; {low:.1%} of the cells are unlike the reference."]
