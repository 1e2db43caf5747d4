"""The effect of perturbations on each gene, in each cell group."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Categorical, Schema
from genevae.errors import CategoryError, DataError, nearest
from genevae.models.vae import VAE
from genevae.tasks.condition import TargetCondition
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells, seeded
from genevae.tasks.posterior_expectation import in_blocks, latents_snk
from genevae.tasks.support import SupportByCombination

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["effect"]

PSEUDOCOUNT = 1e-5
"""Pseudocount of fold changes of counts, as a share of the cells' mean size."""
MAX_SUMS = 2**26
"""Largest number of sums in memory at once: categories × groups × samples × genes, 512 MiB."""
COLUMNS = ("gene", "rank", "control_mean", "mean", "lfc", "posterior_lower", "posterior_upper", "n_cells", "support")


def effect(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    field: str,
    control: str | None = None,
    to: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    n_draws: int = 25,
    interval: float = 0.9,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict the effect of each perturbation on each gene, in each group of cells.

    Control cells are decoded under control and under every other category, from the same samples of z. Conditions that
    are nested in the perturbation, such as the experiment, take the categories that occur with it. With m(t) the
    mean over cells of E[x | z, t]: for counts lfc = log2((m(t) + ε) / (m(control) + ε)), where ε is 1/100,000 of the
    cells' mean size; for other values, which are natural logarithms, lfc = (m(t) − m(control)) / ln 2.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions. Only control cells are used.
    field
        The condition whose categories are the perturbations.
    control
        The category to compare with; by default the control that was set in training.
    to
        The categories to predict; by default all others.
    by
        The conditions that define the groups of cells; by default every other categorical one except the technical
        batch and those that are nested in the perturbation. Cells with an unknown category are left out.
    n_draws
        Samples from the posterior.
    interval
        Share of the samples that the interval contains.
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
        absolute lfc, ``control_mean`` and ``mean`` (both predicted), ``lfc``, ``posterior_lower`` and
        ``posterior_upper``, ``n_cells``, and ``support``, averaged over cells: near one if similar training cells were
        observed in this combination, near zero if none were. The posterior interval says how much the prediction
        varies over z of these cells. It is no test, and no confidence interval of the effect: it leaves out other
        cells, other donors and training again, and excludes zero for most genes also where labels are random.

    Raises
    ------
    CategoryError
        If a field or a category is unknown, there is no control, or no cell was observed under it.
    DataError
        If genes, columns or categories do not fit the model.
    """
    if n_draws < 1 or not 0 < interval < 1:
        raise DataError(f"n_draws must be above 0 and interval between 0 and 1, not {n_draws} and {interval}.")
    contrast = _parse_contrast(model.schema, field, control, to, by)
    cells = open_cells(model, data, layer, batch_size)
    groups = _control_groups(cells, contrast)
    tails = ((1 - interval) / 2, (1 + interval) / 2)
    tables = []
    for codes in _blocks(contrast, len(groups.code_bf), n_draws, len(model.schema.genes)):
        mean_tbsg, support_tb = _means(model, cells, contrast, groups, codes, n_draws, batch_size, seed)
        for (t, code), b in itertools.product(enumerate(codes, 1), range(len(groups.code_bf))):
            names = {**contrast.group_names(groups.code_bf[b]), field: contrast.field.categories[code]}
            lfc = _fold_changes(mean_tbsg[0, b], mean_tbsg[t, b], model.schema.output_kind.is_count, tails)
            facts = {"n_cells": int(groups.n_b[b]), "support": float(support_tb[t, b])}
            tables.append(_ranked({**names, "gene": list(model.schema.genes), "rank": 0, **lfc, **facts}))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class _Contrast:
    """The perturbation field, the codes of its control and of the target categories, and the grouping fields."""

    field: Categorical
    control: int
    targets: tuple[int, ...]
    by: tuple[Categorical, ...]

    def group_names(self, code_f: Tensor) -> dict[str, str]:
        """Return the categories of a group."""
        return {f.name: f.categories[code] for f, code in zip(self.by, code_f.tolist(), strict=True)}


def _parse_contrast(
    schema: Schema, field: str, control: str | None, to: Sequence[str] | None, by: Sequence[str] | None
) -> _Contrast:
    covariate = schema.categorical_field(field)
    if (control_name := control or covariate.control) is None:
        raise CategoryError(f"'{field}' has no control. Give one with --control. {nearest('', covariate.categories)}")
    control_code = _known_code(covariate, control_name)
    others = [c for c in range(len(covariate.categories)) if c != control_code]
    targets = others if to is None else [_known_code(covariate, name) for name in dict.fromkeys(to)]
    if not set(targets) & set(others):
        raise CategoryError(f"There is nothing to compare with '{control_name}'. {nearest('', covariate.categories)}")
    inner = {nesting.inner for nesting in schema.nested if nesting.outer == field}
    free = [c.name for c in schema.categorical if not c.technical and c is not covariate and c.name not in inner]
    by_names = free if by is None else by
    by_fields = tuple(schema.categorical_field(name) for name in dict.fromkeys(by_names) if name != field)
    if clash := {field, *(each.name for each in by_fields)} & set(COLUMNS):
        raise DataError(f"'{clash.pop()}' is a column of the result. Rename this condition.")
    return _Contrast(covariate, control_code, tuple(c for c in targets if c != control_code), by_fields)


def _known_code(field: Categorical, category: str) -> int:
    if (code := field.code(category)) == len(field.categories):
        raise CategoryError(
            f"Effects compare known categories of '{field.name}', and '{category}' is not one. "
            f"{nearest(category, field.categories)}"
        )
    return code


@dataclass(frozen=True)
class _ControlGroups:
    """The rows of the control cells, the group of each, and the codes and sizes of the groups ``b``."""

    row_n: NDArray[np.int64]
    group_n: Tensor
    code_bf: Tensor
    n_b: Tensor


def _control_groups(cells: Loader, contrast: _Contrast) -> _ControlGroups:
    chosen_n = cells.codes(contrast.field.name) == contrast.control
    for field in contrast.by:
        chosen_n = chosen_n & (cells.codes(field.name) < len(field.categories))
    row_n = chosen_n.nonzero().squeeze(-1)
    if not len(row_n):
        control = contrast.field.categories[contrast.control]
        raise CategoryError(
            f"{cells.source.name} has no control cells, with '{contrast.field.name}' = '{control}'"
            f"{' and a known ' + ', '.join(f.name for f in contrast.by) if contrast.by else ''}. "
            "Effects are predicted from control cells."
        )
    code_nf = torch.stack([row_n.new_zeros(len(row_n)), *(cells.codes(f.name)[row_n] for f in contrast.by)], -1)
    code_bf, group_n, n_b = code_nf.unique(dim=0, return_inverse=True, return_counts=True)
    return _ControlGroups(row_n.numpy(), group_n, code_bf[:, 1:], n_b)


def _blocks(contrast: _Contrast, n_groups: int, n_draws: int, n_genes: int) -> Iterator[tuple[int, ...]]:
    """Yield blocks of target categories whose sums fit in memory."""
    block_size = max(1, MAX_SUMS // (n_groups * n_draws * n_genes) - 1)
    for start in range(0, len(contrast.targets), block_size):
        yield contrast.targets[start : start + block_size]


def _means(
    model: TrainedModel, cells: Loader, contrast: _Contrast, groups: _ControlGroups, codes: Sequence[int],
    n_draws: int, batch_size: int, seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Return means under control and under each of these categories, and their support, in one pass over the cells."""
    nested = model.schema.nested
    targets = [TargetCondition({contrast.field.name: code}, {}, nested) for code in (contrast.control, *codes)]
    supports = [SupportByCombination(model.reference, target) for target in targets]
    n_groups = len(groups.n_b)
    sum_tbsg = torch.zeros(len(targets), n_groups, n_draws, len(model.schema.genes), dtype=torch.float64)
    support_tb = torch.zeros(len(targets), n_groups, dtype=torch.float64)
    at = 0
    with evaluation_mode(model) as module, seeded(module, seed):  # the same seed: all categories share latents
        for minibatch in on_device(module, Loader(cells.source, cells.schema, InOrder(groups.row_n, batch_size))):
            for block in in_blocks(minibatch, n_draws):
                group_n, at = groups.group_n[at : at + block.n_cells], at + block.n_cells
                member_bn = torch.nn.functional.one_hot(group_n, n_groups).T
                for t, x_sng in enumerate(_expected(model, module, block, targets, n_draws)):
                    sum_tbsg[t] += (member_bn.to(x_sng) @ x_sng).double().cpu().transpose(0, 1)
                    support_tb[t] += member_bn.double() @ supports[t].score_n(module, block).double().cpu()
    return (sum_tbsg / groups.n_b.view(-1, 1, 1)).numpy(), (support_tb / groups.n_b).numpy()


def _expected(
    model: TrainedModel, module: VAE, cells: Cells, targets: Sequence[TargetCondition], n_draws: int
) -> Iterator[Tensor]:
    """Yield the expected expression under each condition, from the same latents."""
    z_snk, condition = latents_snk(module, cells, n_draws), module.sized(cells)
    for target in targets:
        x_sng = module.likelihood(z_snk, target.apply(condition)).mean
        yield model.schema.transform.invert(x_sng, condition.size_n1)


def _fold_changes(
    control_sg: NDArray[np.float64], mean_sg: NDArray[np.float64], counts: bool, tails: tuple[float, float]
) -> dict[str, Any]:
    """Return the fold change between the means over samples, and its interval over samples."""
    pseudocount = PSEUDOCOUNT * control_sg.sum(-1).mean()

    def lfc(control: Any, mean: Any) -> Any:
        return np.log2((mean + pseudocount) / (control + pseudocount)) if counts else (mean - control) / np.log(2)

    lower_g, upper_g = np.quantile(lfc(control_sg, mean_sg), tails, axis=0)
    control_g, mean_g = control_sg.mean(0), mean_sg.mean(0)
    change_g = lfc(control_g, mean_g)
    return {
        "control_mean": control_g,
        "mean": mean_g,
        "lfc": change_g,
        "posterior_lower": lower_g,
        "posterior_upper": upper_g,
    }


def _ranked(columns: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    table = table.iloc[np.argsort(-np.abs(table["lfc"].to_numpy()), kind="stable")]
    return table.assign(rank=np.arange(1, len(table) + 1))
