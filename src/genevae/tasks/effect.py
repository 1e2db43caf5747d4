"""The effect of perturbations on each gene, in each cell group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Categorical, Schema
from genevae.errors import CategoryError, DataError, nearest, warn
from genevae.models.vae import VAE
from genevae.responses.answer import Answer
from genevae.responses.replicates import ReplicateTest, paired_test, unpaired_test
from genevae.tasks.condition import TargetCondition
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells, seeded
from genevae.tasks.response import Group, GroupAnswer, answer_of, evenly_spaced, groups_of
from genevae.tasks.support import SupportByCombination, note_never_seen, seen_categories
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["effect"]

CONTROLS = frozenset(
    {"control", "ctrl", "untreated", "unstimulated", "vehicle", "dmso", "non-targeting", "mock", "pbs"}
)
"""Names of categories that are a control."""
PSEUDOCOUNT = 1e-5
"""Pseudocount of fold changes of counts, as a share of the cells' mean size."""
MAX_SUPPORT = 1_000
"""Cells of a group whose support is averaged, at most."""
FEW_SAMPLES = 20
"""Replicates below which a test finds few effects."""
COLUMNS = (
    "gene", "rank", "control_mean", "mean", "lfc", "lower", "upper", "probability", "p_value", "fdr", "n_cells",
    "support",
)  # fmt: skip


@task
def effect(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    field: str | None = None,
    control: str | None = None,
    *,
    to: str | Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    answer: str = "auto",
    change: float = 0.25,
    replicate: str | None = None,
    interval: float = 0.9,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict the effect of each perturbation on each gene, in each group of cells.

    The effect is the shift that :func:`~genevae.tasks.counterfactual.counterfactual` predicts for the control cells,
    as a fold change. Conditions that are nested in the perturbation, such as the experiment, take the categories that
    occur with it. With m and m' the mean of the control cells before and after the shift: for counts
    lfc = log2((m' + ε) / (m + ε)), where ε is 1/100,000 of the cells' mean size, and m' is the mean of negative
    binomial counts whose mean log-normalised value is shifted by the answer; for other values, which are natural
    logarithms, lfc = (m' − m) / ln 2.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions. Only control cells are used.
    field
        The condition whose categories are the perturbations; by default the one with a control, or the only one. Where
        it is a category of one field, such as "stim", that field is meant, and the category is the target.
    control
        The category to compare with; by default the control that was set in training, or else the only category with
        the name of a control, such as "ctrl", with a warning.
    to
        The categories to predict; by default all others, of those with an embedding file the ones that were seen.
    by
        The conditions, or columns that were named as context in training, that define the groups of cells; by default
        all of them except the technical batch and those that are nested in the perturbation. Cells with an unknown
        category are left out.
    answer
        As for counterfactuals: "auto", "model", or the name of a member.
    change
        The smallest absolute lfc that counts as a change, for ``probability``.
    replicate
        A condition or context whose categories are independent replicates, such as the donor: adds ``p_value`` and
        ``fdr``, of a moderated t-test between the training profiles of replicates.
    interval
        Share of the intervals that hold the change that would be measured in as many cells as training states have.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Seed of the samples.

    Returns
    -------
    DataFrame
        One row per group, perturbation and gene, the largest effects first: the conditions, ``gene``, ``rank`` by
        absolute lfc, ``control_mean`` (measured) and ``mean`` (predicted), ``lfc``, ``lower`` and ``upper``,
        ``probability`` that the absolute lfc is above ``change``, ``n_cells``, and ``support``, averaged over cells:
        near one if similar training cells were observed in this combination, near zero if none were. ``lower``,
        ``upper`` and ``probability`` are missing where nothing says how far off predictions are. Without replicates
        they take cells as independent: they say nothing about other donors.

    Raises
    ------
    CategoryError
        If a field or a category is unknown, there is no control, or no cell was observed under it.
    DataError
        If genes, columns or categories do not fit the model.

    References
    ----------
    Smyth, Statistical Applications in Genetics and Molecular Biology 3:3 (2004), for the t-test; Squair et al., Nature
    Communications 12:5692 (2021), on replicates.
    """
    if not 0 < interval < 1 or not change >= 0:
        raise DataError(f"interval must be between 0 and 1 and change 0 or more, not {interval} and {change}.")
    if field is None or field not in model.schema.fields:
        field, to = _perturbation(model.schema, field, to)
    to, by = ([each] if isinstance(each, str) else each for each in (to, by))
    contexts = () if model.responses is None else model.responses.profiles.fields
    covariate = model.schema[field]
    if to is None and isinstance(covariate, Categorical) and covariate.embedding is not None:
        to = sorted(seen_categories(model, field))  # not thousands of which nothing but a vector is known
    contrast = _parse_contrast(model.schema, contexts, field, control, to, by, replicate)
    cells = open_cells(model, data, layer, batch_size)
    question = _Question(model, contrast, _control_cells(cells, contrast), answer, interval, change)
    with evaluation_mode(model) as module, seeded(module, seed):
        tables = list(_tables(question, module))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class _Contrast:
    """The perturbation field, the codes of its control and of the targets, and the fields of groups and replicates."""

    field: Categorical
    control: int
    targets: tuple[int, ...]
    by: tuple[str, ...]
    replicate: str | None


def _parse_contrast(
    schema: Schema, contexts: Sequence[str], field: str, control: str | None, to: Sequence[str] | None,
    by: Sequence[str] | None, replicate: str | None,
) -> _Contrast:  # fmt: skip
    covariate = schema.categorical_field(field)
    control_like = [each for each in covariate.categories if each.lower() in CONTROLS]
    if control is None and covariate.control is None and len(control_like) == 1:
        warn(f"'{field}' has no control level: its category '{control_like[0]}' is taken for it.")
        control = control_like[0]
    if (control_name := control or covariate.control) is None:
        raise CategoryError(f"'{field}' has no control. Give one with --control. {nearest('', covariate.categories)}")
    control_code = _known_code(covariate, control_name)
    others = [c for c in range(len(covariate.categories)) if c != control_code]
    targets = others if to is None else [_known_code(covariate, name) for name in dict.fromkeys(to)]
    if not set(targets) & set(others):
        raise CategoryError(f"There is nothing to compare with '{control_name}'. {nearest('', covariate.categories)}")
    inner = {nesting.inner for nesting in schema.nested if nesting.outer == field}
    doses = {c.name for c in schema.continuous}
    free = [c.name for c in schema.categorical if not c.technical and c is not covariate and c.name not in inner]
    known = list(dict.fromkeys([*(c.name for c in schema.categorical), *(n for n in contexts if n not in doses)]))
    free += [name for name in contexts if name not in schema.fields and name != replicate]
    names = tuple(name for name in dict.fromkeys(free if by is None else by) if name not in (field, replicate))
    for name in (*names, *([replicate] if replicate else [])):
        if name not in known:
            raise CategoryError(
                f"'{name}' is neither a condition nor a context of this model (--context). {nearest(name, known)}"
            )
    if clash := {field, *names} & set(COLUMNS):
        raise DataError(f"'{clash.pop()}' is a column of the result. Rename this condition.")
    return _Contrast(covariate, control_code, tuple(c for c in targets if c != control_code), names, replicate)


def _perturbation(schema: Schema, given: str | None, to: Any) -> tuple[str, Any]:
    """Return the field of perturbations and the targets: the field with a control level, or that of a category."""
    fields = [each for each in schema.categorical if not each.technical]
    if given is not None:
        having = [each.name for each in fields if given in each.labels]
        if len(having) == 1 and to is None:
            return having[0], given
        schema[given]  # raises
    found = [each.name for each in fields if each.control is not None] or [each.name for each in fields]
    if len(found) != 1:
        raise CategoryError(f"Give the perturbation field (--field). {nearest('', found)}")
    return found[0], to


def _known_code(field: Categorical, category: str) -> int:
    if (code := field.code(category)) == len(field.categories):
        raise CategoryError(
            f"Effects compare known categories of '{field.name}', and '{category}' is not one. "
            f"{nearest(category, field.categories)}"
        )
    return code


def _control_cells(cells: Loader, contrast: _Contrast) -> Loader:
    """Return the control cells whose categories in all conditions that define groups are known."""
    chosen_n = cells.codes(contrast.field.name) == contrast.control
    for field in cells.schema.categorical:
        if field.name in contrast.by:
            chosen_n = chosen_n & (cells.codes(field.name) < len(field.categories))
    row_n = chosen_n.nonzero().squeeze(-1).numpy()
    if not len(row_n):
        control = contrast.field.categories[contrast.control]
        raise CategoryError(
            f"{cells.source.name} has no control cells, with '{contrast.field.name}' = '{control}'"
            f"{' and a known ' + ', '.join(contrast.by) if contrast.by else ''}. "
            "Effects are predicted from control cells."
        )
    return cells.over(InOrder(row_n, 512))


@dataclass(frozen=True, eq=False)
class _Question:
    """The model, what is compared, and the control cells."""

    model: TrainedModel
    contrast: _Contrast
    cells: Loader
    answer: str
    interval: float
    change: float


def _tables(question: _Question, module: VAE) -> Iterator[pd.DataFrame]:
    """Yield the table of each group and perturbation."""
    contrast, responses = question.contrast, question.model.responses
    name = contrast.field.name
    has_profiles = responses is not None and name in responses.profiles.fields
    every = responses.profiles.contexts([name]) if responses is not None and has_profiles else ()
    contexts = tuple(each for each in every if each != contrast.replicate)  # replicates are pooled
    groups = groups_of(question.cells, contexts, [name], contrast.by)
    new = {code for code in contrast.targets if note_never_seen(question.model, {name: contrast.field.labels[code]})}
    parts: dict[tuple[str, ...], list[Group]] = {}
    numbers: list[int] = []
    for group in groups:
        parts.setdefault(tuple(group.values[each] for each in contrast.by), []).append(group)
    for key in sorted(parts):
        values = dict(zip(contrast.by, key, strict=True))
        for code in contrast.targets:
            condition = {name: contrast.field.categories[code]}
            found = [
                answer_of(
                    question.model, module, question.cells, group, condition, question.answer, question.interval,
                    len(groups) * len(contrast.targets), contexts if has_profiles else None,
                )
                for group in parts[key]
            ]  # fmt: skip
            columns = _effects(found, question.model.schema.output_kind.is_count, question.change)
            test = _replicate_test(question, values, condition[name])
            numbers.append(0 if test is None else test.n_replicates)
            if contrast.replicate:
                columns["p_value"], columns["fdr"] = (np.nan, np.nan) if test is None else test[:2]
            facts = {
                "n_cells": sum(len(one.group.row_n) for one in found),
                "support": _support(question, module, parts[key], code, code in new),
            }
            genes = list(question.model.schema.genes)
            yield _ranked({**values, **condition, "gene": genes, "rank": 0, **columns, **facts})
    if contrast.replicate and min(numbers) < FEW_SAMPLES:
        several = f"{min(numbers)} to {max(numbers)}" if min(numbers) < max(numbers) else str(min(numbers))
        warn(
            f"The tests compare {several} replicates ('{contrast.replicate}'): with fewer than about {FEW_SAMPLES}, "
            "they find only large effects, and with fewer than two there is none."
        )


def _effects(found: Sequence[GroupAnswer], counts: bool, change: float) -> dict[str, Any]:
    """Return the columns of the effect: means over contexts, each weighted by its number of cells."""
    n_c = np.array([len(one.group.row_n) for one in found], dtype=np.float64)
    share_c = n_c / n_c.sum()
    control_g = share_c @ np.stack([one.group.level_g for one in found])
    pseudocount = PSEUDOCOUNT * control_g.sum()

    def mean_at(offset: Callable[[Answer], Any]) -> NDArray[np.float64]:
        shifts = [one.answer.shift_g + offset(one.answer) for one in found]
        means = [one.group.level_after(x, counts) for one, x in zip(found, shifts, strict=True)]
        return np.asarray(share_c @ np.stack(means))

    def lfc(mean_g: NDArray[np.float64]) -> NDArray[np.float64]:
        both = (
            np.log2((mean_g + pseudocount) / (control_g + pseudocount)) if counts else (mean_g - control_g) / np.log(2)
        )
        return np.asarray(both)

    mean_g = mean_at(lambda _: 0.0)
    change_g = lfc(mean_g)
    lower_g, upper_g = lfc(mean_at(lambda a: -a.half_width_g)), lfc(mean_at(lambda a: a.half_width_g))
    sd_g = (lfc(mean_at(lambda a: a.sd_g)) - lfc(mean_at(lambda a: -a.sd_g))) / 2
    safe_g = np.maximum(sd_g, 1e-9)
    probability_g = norm.sf((change - change_g) / safe_g) + norm.cdf((-change - change_g) / safe_g)
    return {
        "control_mean": control_g,
        "mean": mean_g,
        "lfc": change_g,
        "lower": lower_g,
        "upper": upper_g,
        "probability": np.where(np.isnan(sd_g), np.nan, probability_g),
    }


def _support(question: _Question, module: VAE, groups: Sequence[Group], code: int, never_seen: bool) -> float:
    """Return the support of the cells of a group, or of some of them, averaged."""
    contrast, model = question.contrast, question.model
    target = TargetCondition({contrast.field.name: code}, {}, model.schema.nested)
    support = SupportByCombination(model.reference, target, never_seen)
    row_n = evenly_spaced(np.sort(np.concatenate([group.row_n for group in groups])), MAX_SUPPORT)
    scores = [support.score_n(module, cells) for cells in on_device(module, question.cells.over(InOrder(row_n, 512)))]
    return float(torch.cat(scores).mean())


def _replicate_test(question: _Question, values: Mapping[str, str], level: str) -> ReplicateTest | None:
    """Test the training profiles of replicates, paired where replicates have both conditions."""
    contrast, responses = question.contrast, question.model.responses
    if contrast.replicate is None:
        return None
    assert responses is not None  # noqa: S101 - the replicate is one of its fields
    control = contrast.field.categories[contrast.control]
    profiles = responses.profiles
    sums: dict[tuple[str, str], list[Any]] = {}
    for m, key in enumerate(profiles.keys):
        state = dict(zip(profiles.fields, key, strict=True))
        if all(state[name] == value for name, value in values.items() if name in state):
            one = sums.setdefault((state[contrast.field.name], state[contrast.replicate]), [0.0, 0])
            one[0] = one[0] + profiles.n_m[m] * profiles.mean_mg[m].astype(np.float64)
            one[1] += profiles.n_m[m]
    means = {key: total / n for key, (total, n) in sums.items()}
    before = {replicate: x for (at, replicate), x in means.items() if at == control}
    after = {replicate: x for (at, replicate), x in means.items() if at == level}
    both = sorted(before.keys() & after.keys())
    if len(both) > 1:
        test = paired_test(np.stack([after[r] - before[r] for r in both]))
    elif before and after:
        test = unpaired_test(np.stack(list(before.values())), np.stack(list(after.values())))
    else:
        test = None
    return test


def _ranked(columns: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    table = table.iloc[np.argsort(-np.abs(table["lfc"].to_numpy()), kind="stable")]
    return table.assign(rank=np.arange(1, len(table) + 1))
