"""The state of every cell: its categories in all conditions and contexts, as text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from genevae.data.covariates import Categorical, category_names, obs_column
from genevae.data.schema import UNKNOWN, Schema

__all__ = ["MAX_DOSES", "dose_text", "state_fields", "state_table"]

MAX_DOSES = 50
"""Values of a continuous condition that are states; a condition with more has none."""


def state_fields(schema: Schema, context: Sequence[str], obs: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that states are combinations of: conditions, doses, and other columns that are contexts.

    The technical batch is left out.

    Parameters
    ----------
    schema
        The conditions.
    context
        Obs columns that are no conditions.
    obs
        The table of cells, for the number of doses.
    """
    names = [c.name for c in schema.categorical if not c.technical]
    names += [c.name for c in schema.continuous if obs[c.name].nunique() <= MAX_DOSES]
    return tuple(dict.fromkeys([*names, *context])) if names else ()


def state_table(obs: pd.DataFrame, schema: Schema, fields: Sequence[str]) -> pd.DataFrame:
    """Return the categories of every cell in these columns, as text. Columns that obs lacks are empty.

    Parameters
    ----------
    obs
        One row per cell.
    schema
        The conditions, which say how categories are named.
    fields
        The columns.
    """
    columns = {name: _column(obs, schema, name) for name in fields}
    return pd.DataFrame(columns, index=obs.index, dtype=object)


def _column(obs: pd.DataFrame, schema: Schema, name: str) -> pd.Series[str]:
    if name not in obs:
        return pd.Series("", index=obs.index, dtype=object)
    column = obs_column(obs, name)
    if name not in schema.fields:
        return category_names(column).fillna(UNKNOWN)
    covariate = schema[name]
    if isinstance(covariate, Categorical):
        labels = pd.Series(covariate.labels, dtype=object)
        return pd.Series(labels[covariate.encode(column).numpy()].to_numpy(), index=obs.index, dtype=object)
    return pd.to_numeric(column).map(dose_text).astype(object)


def dose_text(value: float) -> str:
    """Return a dose as text that is the same for the same number in any precision.

    >>> dose_text(0.1), dose_text(10.0)
    ('0.1', '10')
    """
    return f"{value:.6g}"
