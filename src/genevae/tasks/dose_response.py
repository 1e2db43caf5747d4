"""Dose-response curves of genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genevae.data.schema import Continuous, Schema
from genevae.errors import CategoryError, DataError, GeneError, nearest, shorten
from genevae.tasks.condition import assigned, parse_condition
from genevae.tasks.curves import curve_table
from genevae.tasks.inference import TrainedModel, evaluation_mode, open_cells, require_size, seeded
from genevae.tasks.response import answer_of, groups_of, set_fields
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.data.loader import Loader
    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["dose_response"]

N_DOSES = 24
"""Default number of doses above zero."""
SPAN = 1e-4
"""Ratio of the lowest to the highest default dose, if the data have no dose above zero."""


@task
def dose_response(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    condition: Mapping[str, str] | str | None = None,
    *,
    field: str | None = None,
    doses: Sequence[float] = (),
    genes: Sequence[str] | None = None,
    answer: str = "auto",
    interval: float = 0.9,
    least_change: float = 0.1,
    size: float | None = None,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict the dose-response curve of each gene, with its EC50.

    m(d) is the measured mean of the cells after the shift that
    :func:`~genevae.tasks.counterfactual.counterfactual` predicts for dose d. Members besides the model are a line in
    log(dose) between the doses of training, the best monotone curve, and the nearest dose.
    EC50 is the dose where ``|m(d) − m(0)|`` first reaches half of its largest value, interpolated
    linearly in log(dose).

    Parameters
    ----------
    model
        A trained model with a dose among its continuous conditions; the recipe dose is made for this.
    data
        Cells to start from, with the model's genes and conditions. Untreated cells are enough.
    condition
        The drug, as FIELD=VALUE, and any other condition to set. May be left out if there is a single category other
        than the control.
    field
        The continuous condition that is the dose. May be left out if there is only one.
    doses
        Doses to predict, in the units of the data, as in 0.1,1,10; by default 24 doses evenly spaced in log(dose), from
        the lowest above zero in the data to the highest in training. Dose zero is always added.
    genes
        Genes to return; all by default.
    answer
        As for counterfactuals: "auto", "model", or the name of a member.
    interval
        Share of the intervals that hold the mean that would be measured in as many cells as training states have.
    least_change
        Genes whose expression changes by less than this share of its maximum have no EC50.
    size
        Counts per cell. By default each cell keeps its size.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Seed of the samples.

    Returns
    -------
    DataFrame
        One row per gene and dose, indexed by gene: ``dose``; ``mean``, ``lower`` and ``upper``, the mean expression of
        the cells and its interval; ``max_effect``, the largest change m(d) − m(0), with its sign; ``ec50``, in the
        units of the dose, NaN if the gene hardly changes or reaches half its change below the lowest dose.

    Raises
    ------
    CategoryError
        If the model has no dose, a covariate or a category is unknown, or the drug is ambiguous.
    DataError
        If a dose is negative or not finite, or genes, columns or categories do not fit the model.
    GeneError
        If the model does not have one of ``genes``.
    """
    schema = model.schema
    dose = _dose(schema, field)
    if not 0 < interval < 1:
        raise DataError(f"interval must be between 0 and 1, not {interval}.")
    require_size(model, size)
    drug = _drug(schema, condition if condition is None else assigned(schema, condition), dose.name)
    columns = _gene_columns(schema.genes, genes)
    cells = open_cells(model, data, layer, batch_size)
    dose_d = _prediction_doses(doses, dose, cells.source.obs)
    conditions = [{**drug, dose.name: d} for d in dose_d]
    mean_dg, lower_dg, upper_dg = _curves(model, cells, conditions, answer, interval, size, seed)
    names = [schema.genes[g] for g in columns]
    return curve_table(
        names, dose_d, mean_dg[:, columns], lower_dg[:, columns], upper_dg[:, columns], least_change
    )  # fmt: skip


def _curves(
    model: TrainedModel,
    cells: Loader,
    conditions: Sequence[Mapping[str, object]],
    answer: str,
    interval: float,
    size: float | None,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean over cells at each dose, and the ends of its interval."""
    counts = model.schema.output_kind.is_count
    with evaluation_mode(model) as module, seeded(module, seed):
        fields = set_fields(model, conditions[0])
        contexts = model.responses.profiles.contexts(fields) if model.responses is not None and fields else ()
        groups = groups_of(cells, contexts, fields)
        share_c = np.array([len(group.row_n) for group in groups]) / len(cells.sampler.rows)
        curves = np.zeros((3, len(conditions), len(model.schema.genes)))
        for d, condition in enumerate(conditions):
            torch.manual_seed(seed)  # all doses share the random numbers
            for share, group in zip(share_c, groups, strict=True):
                found = answer_of(
                    model,
                    module,
                    cells,
                    group,
                    condition,
                    answer if d else "auto",
                    interval,
                    len(groups) * len(conditions),
                ).answer
                for row, end in enumerate((0, -1, 1)):
                    shift_g = found.shift_g + end * np.nan_to_num(found.half_width_g)
                    factor = size / group.level_g.sum() if size is not None else 1.0
                    curves[row, d] += share * factor * group.level_after(shift_g, counts)
    return curves[0], curves[1], curves[2]


def _dose(schema: Schema, field: str | None) -> Continuous:
    """Return the continuous covariate that is the dose."""
    names = [covariate.name for covariate in schema.continuous]
    if not names:
        raise CategoryError(
            "This model has no dose. Train one with --continuous DOSE, best with --recipe dose --condition DRUG."
        )
    if field is None and len(names) > 1:
        raise CategoryError(
            f"This model has {len(names)} continuous conditions ({shorten(names)}). Give the dose with --field."
        )
    covariate = schema[field or names[0]]
    if not isinstance(covariate, Continuous):
        raise CategoryError(f"'{field}' is a categorical condition, and a dose is a number. {nearest(field, names)}")
    return covariate


def _drug(schema: Schema, condition: Mapping[str, str] | None, dose: str) -> dict[str, str]:
    """Return the conditions to set: those given, or else the only category that is not a control."""
    if condition is not None:
        if dose in condition:
            raise CategoryError(f"'{dose}' is the dose. Give doses with --doses, not with --set.")
        parse_condition(schema, condition)
        return dict(condition)
    choices = {c.name: [v for v in c.categories if v != c.control] for c in schema.categorical if c.control is not None}
    if len(choices) != 1 or any(len(treated) != 1 for treated in choices.values()):
        raise CategoryError(f"Give the drug as --set FIELD=VALUE. {nearest('', [c.name for c in schema.categorical])}")
    return {name: treated[0] for name, treated in choices.items()}


def _gene_columns(known: Sequence[str], genes: Sequence[str] | None) -> list[int]:
    """Return the columns of the genes to predict."""
    column = {gene: g for g, gene in enumerate(known)}
    for gene in genes or ():
        if gene not in column:
            raise GeneError(f"This model does not have the gene '{gene}'. {nearest(gene, known)}")
    return [column[gene] for gene in (genes or known)]


def _prediction_doses(doses: Sequence[float], dose: Continuous, obs: pd.DataFrame) -> list[float]:
    """Return the doses to predict, ascending, with zero."""
    if len(doses):
        wrong = [d for d in doses if not (np.isfinite(d) and d >= 0)]
        if wrong:
            raise DataError(f"Doses must be zero or above, not {wrong[0]}.")
        return sorted({0.0, *map(float, doses)})
    observed = pd.to_numeric(obs[dose.name], errors="coerce") if dose.name in obs else pd.Series(dtype=float)
    lowest = float(observed[observed > 0].min()) if (observed > 0).any() else SPAN * dose.maximum
    if not lowest < dose.maximum:
        lowest = SPAN * dose.maximum
    return [0.0, *np.geomspace(lowest, dose.maximum, N_DOSES).tolist()]
