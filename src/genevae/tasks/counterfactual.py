"""Counterfactual expression: the same cells in another condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.data.covariates import category_name
from genevae.data.schema import UNKNOWN, Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.engine import Block, Plan, Workers
from genevae.errors import CategoryError, DataError, nearest, warn
from genevae.io.tables.metadata import read_table
from genevae.models.vae import VAE
from genevae.tasks.anchor import Anchor
from genevae.tasks.condition import TargetCondition, assigned, parse_condition
from genevae.tasks.inference import CellPass, Passes, TrainedModel, draw_expression, evaluation_mode, open_cells, seeded
from genevae.tasks.output import TaskOutput, free_column, in_columns_of, require_writable, to_numpy, values_uns
from genevae.tasks.posterior_expectation import expectations_sng, in_blocks, latents_snk
from genevae.tasks.quantile_map import quantile_mapped
from genevae.tasks.response import GroupAnswer, answers_of
from genevae.tasks.support import SupportByCombination, note_never_seen
from genevae.tasks.task import add_to, task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.data.loader import Loader
    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["counterfactual"]


@task
def counterfactual(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    condition: Mapping[str, str] | str | None = None,
    *,
    conditions: pd.DataFrame | str | Path | None = None,
    answer: str = "auto",
    n_draws: int = 25,
    interval: float = 0.9,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
    out: str | Path | None = None,
    into: str | Path | None = None,
    key_added: str | None = None,
    overwrite: bool = False,
    executor: Workers | None = None,
) -> AnnData:
    """Predict what cells would look like in another condition.

    z ~ q(z | x, c), then p(x | z, c').

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes, and the conditions they were observed in.
    condition
        The target condition, as FIELD=VALUE; the value alone where one field has it. Each cell keeps its other
        covariates and its size.
    conditions
        Several target conditions instead, as a table or the path of one: a row each, with covariates as columns. Where
        a field is empty, each cell keeps its own. The result has all cells once for each row, and their names end with
        the condition.
    answer
        "auto": members (the model, latent arithmetic, and simple methods such as the mean shift of other cell types),
        weighted by how well each predicted states of the training cells that it had not seen; see Notes. The name of
        one of them: that alone. "model": the model alone, and not anchored on the measured cells.
    n_draws
        Samples from the posterior of each cell.
    interval
        Share of the intervals ``lower`` to ``upper`` that hold the mean that would be measured.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Seed of the samples.
    out
        Write the result to this path block by block, as .h5ad or .zarr (or .npy for X alone), and return its tables.
    into
        Add the result to this .h5ad file of the same cells instead: X as the layer ``counterfactual``, the layers as
        ``counterfactual_mean`` …, and the obs column ``counterfactual_support``. All else in the file stays as it is.
    key_added
        Also add the result to the given AnnData, as the layer of this name (X, NaN for genes that the model lacks),
        and ``obs[key_added + "_support"]``.
    overwrite
        Whether to replace an existing result.
    executor
        Where the cells are computed: "processes:4", "dask:ADDRESS", "submitit:PARTITION", a pool, a ``Client`` of Dask
        or an executor of submitit; by default this process. The result does not depend on it.

    Returns
    -------
    AnnData
        ``X``: the cell itself in the target condition, each gene at the rank it had in its source condition, so that
        the cell keeps its noise and is unchanged if the condition is unchanged (counts or log-normalised values; see
        ``uns["genevae"]``). The mean of each group of cells (same context, same source), log-normalised by the sizes
        of the given cells, is the measured mean plus the predicted shift. Layers: ``mean``, expected expression in
        the target condition; ``lower`` and ``upper``, the interval of the mean of the group, at each cell; ``draw``,
        one sample from the likelihood. ``obs``: the target condition, the previous one as ``source_FIELD``, and
        ``support``, near one if similar training cells were observed in the target combination, near zero if none
        were. ``varm``: ``shift``, ``shift_lower`` and ``shift_upper`` of each gene, in log-normalised expression, with
        a column for each group, such as "B (ctrl)". ``uns["genevae"]["members"]``: the weight of each member in the
        answer for each group.

    Raises
    ------
    CategoryError
        If a covariate or a category is unknown, or none is given.
    DataError
        If genes, columns or categories do not fit the model.

    Notes
    -----
    To compare with the input cells, use ``X``, not ``mean`` or ``draw``: what the model does not explain of a cell is
    the same in both and cancels. To transfer a response to cell types that were never observed responding, train with
    the response as the only condition, and name the cell type as ``context``. A model that is also given the cell type
    learns a separate response for each type; a model that infers it from expression lets similar types respond alike.

    The shift of a group from its source condition to the target is Σ w_k s_k over members k. Weights are non-negative,
    sum to one, and are fitted to the training states, each predicted without its own cells; the model takes part where
    it was trained without them too (``folds`` of :func:`~genevae.runs.fit.fit`). If training cells have the target
    state of this context, their shift is the estimate, and the prediction its prior. Intervals come from the errors for
    states that were left out, and include the noise of a mean over as many cells as were given.

    References
    ----------
    Pearl, *Causality*, 2nd ed. (2009), 7.1; Pawlowski, Castro and Glocker, NeurIPS (2020), for deep models.
    """
    require_writable(out, overwrite, model, data, conditions, into=into)
    targets = _targets(model.schema, condition, conditions)
    if n_draws < 1 or not 0 < interval < 1:
        raise DataError(f"n_draws must be above 0 and interval between 0 and 1, not {n_draws} and {interval}.")
    if len(targets) > 1 and (into is not None or key_added is not None):
        raise DataError("Several conditions have several rows for each cell: give out, not into or key_added.")
    nested = {name for _, one in targets for name in parse_condition(model.schema, one).reassigned}
    for name in sorted(nested):
        warn(f"'{name}' is nested in the condition that is set: each cell takes a category of it that occurs there.")
    new = [note_never_seen(model, one) for _, one in targets]
    plan = Plan(
        _questions, model=model, data=data, targets=targets, new=[bool(names) for names in new], answer=answer,
        n_draws=n_draws, interval=interval, layer=layer, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    questions: list[_Question] = [each.function for each in plan.here.passes]
    fields, given = list(dict.fromkeys(name for _, one in targets for name in one)), questions[0].cells.source.obs
    obs = _joined(
        [_target_obs(given, model.schema, one, fields, label) for label, one in targets], fields, model.schema
    )
    never_seen = sorted({f"{name}={one[name]}" for (_, one), names in zip(targets, new, strict=True) for name in names})
    uns = values_uns(model.schema, limited=model.reference.limits is not None)
    uns["genevae"] |= _members(questions) | ({"never_seen": never_seen} if never_seen else {})
    support_as = free_column(obs, "support")
    output = TaskOutput(
        obs, model.schema.genes, plan, uns, "counterfactual", _shifts(questions, model.schema.genes), like=data,
        titles={"support": support_as},
    )  # fmt: skip
    result = output.to_anndata(out, into, overwrite, executor)
    if key_added is not None:
        support = result.obs[support_as].to_numpy()
        add_to(data, {f"layers/{key_added}": in_columns_of(data, result), f"obs/{key_added}_support": support})
    return result


def _questions(
    model: TrainedModel, data: Any, targets: Sequence[tuple[str, Mapping[str, Any]]], new: Sequence[bool], answer: str,
    n_draws: int, interval: float, layer: str | None, batch_size: int, seed: int,
) -> Passes:  # fmt: skip
    """Make a pass for each target condition."""
    cells = open_cells(model, data, layer, batch_size)
    passes = []
    for (label, one), never_seen in zip(targets, new, strict=True):
        with evaluation_mode(model) as module, seeded(module, seed):
            found = answers_of(model, module, cells, one, answer, interval)
        target = parse_condition(model.schema, one)
        question = _Question(model, cells, target, n_draws, interval, seed, found, never_seen, label)
        passes.append(CellPass(model, cells, question, batch_size, seed))
    return Passes(passes)


@dataclass(frozen=True, eq=False)
class _Question:
    """The cells, what is set, and how."""

    model: TrainedModel
    cells: Loader
    target: TargetCondition
    n_draws: int
    interval: float
    seed: int
    found: Sequence[GroupAnswer]
    never_seen: bool = False
    label: str = ""

    def __call__(self, module: VAE, minibatch: Cells) -> Iterator[Block]:
        """Answer for a minibatch."""
        for block in in_blocks(minibatch, self.n_draws):
            elements = _elements(self, module, block, self.anchor)
            yield {**elements, "obs/support": to_numpy(self.support.score_n(module, block))}

    @cached_property
    def anchor(self) -> Anchor | None:
        """What brings the means of groups to the answers; made where the first minibatch is computed."""
        if not self.found:
            return None
        module = self.model.module
        with evaluation_mode(self.model), seeded(module, self.seed):
            return Anchor(module, self.cells, self.target, self.found)

    @cached_property
    def support(self) -> SupportByCombination:
        """How near the cells are to training cells in the target condition."""
        return SupportByCombination(self.model.reference, self.target, self.never_seen)


def _elements(question: _Question, module: VAE, cells: Cells, anchor: Anchor | None) -> dict[str, Any]:
    model, schema = question.model, question.model.schema
    target, counts = question.target.apply(module.sized(cells)), schema.output_kind.is_count
    mean_sng = schema.transform.invert(expectations_sng(module, cells, target, question.n_draws), target.size_n1)
    mean_ng = mean_sng.mean(0)
    z_nk, sampled_nk = module.posterior(cells).mean, latents_snk(module, cells, 1)[0]
    p, p_draw = module.likelihood(z_nk, target), module.likelihood(sampled_nk, target)
    scale_ng = None if anchor is None else anchor.scale_ng(cells)
    scales = schema.has_noise_model and counts
    draw_ng = draw_expression(
        model, p_draw.scaled(scale_ng) if scales and scale_ng is not None else p_draw, target.size_n1
    )
    source = module.likelihood(z_nk, module.sized(cells))
    mapped_ng = quantile_mapped(schema, cells, source, p, target.size_n1, scale_ng)
    if anchor is None or scale_ng is None:
        tails = torch.tensor([(1 - question.interval) / 2, (1 + question.interval) / 2], device=mean_sng.device)
        lower_ng, upper_ng = _quantiles(mean_sng, tails)
    else:
        mean_ng = mean_ng * scale_ng if counts else mean_ng + scale_ng
        low_ng, high_ng = anchor.ends_ng(cells)
        lower_ng, upper_ng = (mean_ng * end if counts else mean_ng + end for end in (low_ng, high_ng))
        if not scales:
            draw_ng = (draw_ng * scale_ng).round() if counts else draw_ng + scale_ng
    if model.reference.limits is not None:
        limit_ng = model.reference.limits.of_counts(target.size_n1)
        mapped_ng = torch.minimum(mapped_ng, torch.maximum(limit_ng, cells.x.dense()))
    if schema.output_kind is Kind.LOG:
        mapped_ng, lower_ng, upper_ng, draw_ng = (x.clamp(min=0) for x in (mapped_ng, lower_ng, upper_ng, draw_ng))
    layers = {"mean": mean_ng, "lower": lower_ng, "upper": upper_ng, "draw": draw_ng}
    return {
        "X": to_numpy(mapped_ng),
        **{f"layers/{name}": to_numpy(x_ng) for name, x_ng in layers.items()},
    }


def _quantiles(x_sng: Tensor, q: Tensor) -> Tensor:
    """Return quantiles over samples by linear interpolation. ``torch.quantile`` fails on large inputs."""
    ordered = x_sng.sort(0).values
    position = q * (len(ordered) - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], (position - low).view(-1, 1, 1).to(ordered.dtype))


def _shifts(questions: Sequence[_Question], genes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the shift of each gene with its interval: a column for each group of cells and condition."""
    found = [(_titled(question, one), one.answer) for question in questions for one in question.found]
    tables = {}
    for name, end in (("shift", 0), ("shift_lower", -1), ("shift_upper", 1)):
        columns = {title: answer.shift_g + end * answer.half_width_g for title, answer in found}
        tables[name] = pd.DataFrame(columns, index=list(genes))
    return tables if found else {}


def _titled(question: _Question, one: GroupAnswer) -> str:
    return f"{one.name} → {question.label}" if question.label else one.name


def _members(questions: Sequence[_Question]) -> dict[str, pd.DataFrame]:
    """Return the weight of each member in the answer for each group of cells, and the number of its cells."""
    rows = [
        (_titled(question, one), len(one.group.row_n), name, float(weight))
        for question in questions
        for one in question.found
        for name, weight in one.answer.weights.items()
    ]
    return {"members": pd.DataFrame(rows, columns=["group", "n_cells", "member", "weight"])} if rows else {}


def _targets(
    schema: Schema, condition: Mapping[str, str] | str | None, conditions: pd.DataFrame | str | Path | None
) -> list[tuple[str, dict[str, Any]]]:
    """Return each target condition, with its name where there is a table of them."""
    if conditions is None:
        if not condition:
            raise CategoryError(f"Give a target condition. {nearest('', schema.fields)}")
        return [("", assigned(schema, condition))]
    if condition:
        raise CategoryError("Give condition (--set) or conditions (--conditions), not both.")
    what = f"{conditions}" if isinstance(conditions, str | Path) else "The table of conditions"
    table = conditions if isinstance(conditions, pd.DataFrame) else read_table(conditions)
    found: dict[str, dict[str, Any]] = {}
    for at, row in enumerate(table.to_dict("records"), 1):
        one = {str(name): value for name, value in row.items() if not (pd.isna(value) or value == "")}
        try:
            parse_condition(schema, one)
        except (CategoryError, DataError) as error:
            raise type(error)(f"{what}, row {at}: {error}") from error
        label = ", ".join(f"{name}={category_name(value)}" for name, value in one.items())
        if not one or label in found:
            raise CategoryError(f"{what}, row {at}, {'is there twice: ' + label if one else 'sets no covariate'}.")
        found[label] = one
    if not found:
        raise CategoryError(f"{what} has no rows: give one for each condition. {nearest('', schema.fields)}")
    return list(found.items())


def _target_obs(
    obs: pd.DataFrame, schema: Schema, condition: Mapping[str, Any], fields: Sequence[str], label: str
) -> pd.DataFrame:
    """Return obs with the target condition, and the previous one as ``source_FIELD``."""
    obs = obs.copy()
    for name in fields:
        before = obs.get(name, UNKNOWN)
        obs[free_column(obs, f"source_{name}")] = before
        if name in condition:
            value, is_categorical = condition[name], isinstance(schema[name], Categorical)
            obs[name] = pd.Categorical([value] * len(obs)) if is_categorical else float(value)
        elif name not in obs:
            obs[name] = before
    return obs.set_axis([f"{cell}-{label}" for cell in obs.index], axis=0) if label else obs


def _joined(tables: Sequence[pd.DataFrame], fields: Sequence[str], schema: Schema) -> pd.DataFrame:
    """Return the rows of several tables, of which some columns differ in their categories."""
    if len(tables) == 1:
        return tables[0]
    obs = pd.concat(tables)
    for name in fields:
        if isinstance(schema[name], Categorical):
            obs[name] = pd.Categorical(obs[name].astype(str))
    return obs
