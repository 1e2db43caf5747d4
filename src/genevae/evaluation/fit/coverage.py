"""How often values fall in the intervals of their predicted distributions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from genevae.calls import public
from genevae.errors import DataError
from genevae.evaluation.cell_selection import missing_requirement, select, usable_n
from genevae.evaluation.fit.measurements import Measured
from genevae.evaluation.load_cells import load_cells
from genevae.io.formats import ReadOptions, open_for_model
from genevae.metrics.calibration import covered
from genevae.runs.load import load
from genevae.runs.trained import Trained

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.source import Source

__all__ = ["calibration"]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@public
def calibration(
    model: Trained | str | Path, data: AnnData | Source | ReadOptions | str | Path, *, cells: int = 300, seed: int = 0
) -> pd.DataFrame:
    """Return the share of held-out values that fall in the central intervals of their predicted distributions.

    Parameters
    ----------
    model
        A trained model, or the folder of a run.
    data
        Cells; those that the model was not trained on count, where there are some.
    cells
        Cells that are used, at most.
    seed
        Of their choice, and of ranks within counts.

    Returns
    -------
    DataFrame
        A row for each level of the interval, a column for the model and one for the baseline, a distribution per gene.
        A calibrated model has the level as its share. ``gv.pl.calibration`` draws it.

    Raises
    ------
    DataError
        If the recipe has no distribution of single values, or there are too few cells.
    """
    model = model if isinstance(model, Trained) else load(model)
    context, _ = load_cells({"model": model}, open_for_model(data, None, model.schema.layer), cells, seed)
    if (reason := missing_requirement(context)) is not None:
        raise DataError(reason)
    chosen = select(context, usable_n(context), cells, cells)
    measured = Measured("model", context.models["model"], chosen.training, chosen.evaluation, seed)
    if measured.entries is None:
        raise DataError(
            f"The recipe {model.recipe.name} has no intervals of single values, so that there is nothing to "
            "check: its likelihood does not model their noise."
        )
    entries = {"model": measured.entries, measured.base_name: measured.base_entries}
    shares = {
        name: [float(covered(each.below_ng, each.at_ng, level).mean()) for level in LEVELS]
        for name, each in entries.items()
        if each is not None
    }
    return pd.DataFrame(shares, index=pd.Index(LEVELS, name="level"))
