"""What a perturbation does to each gene, in each kind of cell."""

from __future__ import annotations

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
from genevae.tasks.condition import Asked
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells, seeded
from genevae.tasks.posterior_expectation import in_pieces, latents_snk
from genevae.tasks.support import Supports

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["effect"]

PSEUDOCOUNT = 1e-5
"""What is added to both sides of a fold change of counts, as a share of the cells' mean size."""
MAX_SUMS = 2**26
"""Sums held at once: categories × groups × draws × genes, 512 MiB."""
COLUMNS = ("gene", "rank", "control_mean", "mean", "lfc", "lower", "upper", "n_cells", "support")


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
    """Tell what each perturbation does to each gene, in each kind of cell.

    The cells that were seen under control are asked under control and under every other category, from the same draws
    of z: m(t) is the mean over cells of E[x | z, t]. For counts lfc = log2((m(t) + ε) / (m(control) + ε)), ε being
    1/100,000 of the cells' mean size; for other values, which are logarithms, lfc = (m(t) − m(control)) / ln 2.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions; those that were seen under control are used.
    field
        The condition whose categories are the perturbations.
    control
        The category to compare with; by default the one that was named when the model was trained.
    to
        The categories to ask for; by default all others.
    by
        The conditions whose categories are the kinds of cell, as they were seen; by default every other categorical
        one but the technical batch. Cells of which one is unknown are left out.
    n_draws
        Draws from the posterior, each of all cells together.
    interval
        Share of the draws that the interval holds.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Of the draws.

    Returns
    -------
    DataFrame
        One row per kind of cell, perturbation and gene, the largest effects first: the conditions, ``gene``, ``rank``
        by the absolute lfc, ``control_mean`` and ``mean`` (what the model predicts under either), ``lfc``, ``lower``
        and ``upper``, ``n_cells``, and ``support``: the mean over cells, near one where such cells were seen so, near
        zero where none was. The interval holds what is uncertain of where these cells lie in the latent. It does not
        hold what another sample of cells, other donors, or a model trained again would change, and so it is narrow.

    Raises
    ------
    CategoryError
        If a field or a category is unknown, no control is known, or no cell was seen under it.
    DataError
        If genes, columns or categories do not fit the model.
    """
    if n_draws < 1 or not 0 < interval < 1:
        raise DataError(f"n_draws must be above 0 and interval between 0 and 1, not {n_draws} and {interval}.")
    question = _understand(model.schema, field, control, to, by)
    cells = open_cells(model, data, layer, batch_size)
    kinds = _kinds(cells, question)
    tails = ((1 - interval) / 2, (1 + interval) / 2)
    tables = []
    for codes in _blocks(question, len(kinds.code_bf), n_draws, len(model.schema.genes)):
        mean_tbsg, support_tb = _means(model, cells, question, kinds, codes, n_draws, batch_size, seed)
        for (t, code), b in ((each, b) for each in enumerate(codes, 1) for b in range(len(kinds.code_bf))):
            names = {**question.names(kinds.code_bf[b]), field: question.field.categories[code]}
            compared = _compare(mean_tbsg[0, b], mean_tbsg[t, b], model.schema.answers_in.is_count, tails)
            facts = {"n_cells": int(kinds.n_b[b]), "support": float(support_tb[t, b])}
            tables.append(_ranked({**names, "gene": list(model.schema.genes), "rank": 0, **compared, **facts}))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class _Question:
    """The field, the codes of its control and of the categories to ask for, and the fields that tell cells apart."""

    field: Categorical
    control: int
    targets: tuple[int, ...]
    by: tuple[Categorical, ...]

    def names(self, code_f: Tensor) -> dict[str, str]:
        """Name a kind of cell."""
        return {f.name: f.categories[code] for f, code in zip(self.by, code_f.tolist(), strict=True)}


def _understand(
    schema: Schema, field: str, control: str | None, to: Sequence[str] | None, by: Sequence[str] | None
) -> _Question:
    asked = schema.categorical_field(field)
    if (named := control or asked.control) is None:
        raise CategoryError(
            f"Say which category of '{field}' is the control (--control). {nearest('', asked.categories)}"
        )
    code = _known(asked, named)
    others = [c for c in range(len(asked.categories)) if c != code]
    targets = others if to is None else [_known(asked, name) for name in dict.fromkeys(to)]
    if not set(targets) & set(others):
        raise CategoryError(f"There is nothing to compare with '{named}'. {nearest('', asked.categories)}")
    fields = [c.name for c in schema.categorical if not c.technical and c is not asked] if by is None else by
    kinds = tuple(schema.categorical_field(name) for name in dict.fromkeys(fields) if name != field)
    if clash := {field, *(kind.name for kind in kinds)} & set(COLUMNS):
        raise DataError(f"The table has a column '{clash.pop()}' of its own: the condition needs another name.")
    return _Question(asked, code, tuple(c for c in targets if c != code), kinds)


def _known(field: Categorical, category: str) -> int:
    if (code := field.code(category)) == len(field.categories):
        raise CategoryError(
            f"An effect is between categories of '{field.name}' that are known, and '{category}' is none of them. "
            f"{nearest(category, field.categories)}"
        )
    return code


@dataclass(frozen=True)
class _Kinds:
    """The rows that were seen under control, the kind of cell of each, and the codes and sizes of the kinds."""

    row_n: NDArray[np.int64]
    kind_n: Tensor
    code_bf: Tensor
    n_b: Tensor


def _kinds(cells: Loader, question: _Question) -> _Kinds:
    chosen_n = cells.codes(question.field.name) == question.control
    for field in question.by:
        chosen_n = chosen_n & (cells.codes(field.name) < len(field.categories))
    row_n = chosen_n.nonzero().squeeze(-1)
    if not len(row_n):
        control = question.field.categories[question.control]
        raise CategoryError(
            f"No cell of {cells.source.name} was seen with '{question.field.name}' = '{control}'"
            f"{' and a known ' + ', '.join(f.name for f in question.by) if question.by else ''}: effects start there."
        )
    code_nf = torch.stack([row_n.new_zeros(len(row_n)), *(cells.codes(f.name)[row_n] for f in question.by)], -1)
    code_bf, kind_n, n_b = code_nf.unique(dim=0, return_inverse=True, return_counts=True)
    return _Kinds(row_n.numpy(), kind_n, code_bf[:, 1:], n_b)


def _blocks(question: _Question, n_kinds: int, n_draws: int, n_genes: int) -> Iterator[tuple[int, ...]]:
    """Take as many categories at once as bounded memory allows."""
    at_once = max(1, MAX_SUMS // (n_kinds * n_draws * n_genes) - 1)
    for first in range(0, len(question.targets), at_once):
        yield question.targets[first : first + at_once]


def _means(
    model: TrainedModel, cells: Loader, question: _Question, kinds: _Kinds, codes: Sequence[int],
    n_draws: int, batch_size: int, seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Pass over the cells once: the means under control and under each of these categories, and their support."""
    asked = [Asked({question.field.name: code}, {}) for code in (question.control, *codes)]
    supports = [Supports(model.reference, each) for each in asked]
    n_kinds = len(kinds.n_b)
    sum_tbsg = torch.zeros(len(asked), n_kinds, n_draws, len(model.schema.genes), dtype=torch.float64)
    support_tb = torch.zeros(len(asked), n_kinds, dtype=torch.float64)
    at = 0
    with evaluation_mode(model) as module, seeded(module, seed):  # every block draws the same latents
        for minibatch in on_device(module, Loader(cells.source, cells.schema, InOrder(kinds.row_n, batch_size))):
            for part in in_pieces(minibatch, n_draws):
                kind_n, at = kinds.kind_n[at : at + part.n_cells], at + part.n_cells
                member_bn = torch.nn.functional.one_hot(kind_n, n_kinds).T
                for t, x_sng in enumerate(_expected(model, module, part, asked, n_draws)):
                    sum_tbsg[t] += (member_bn.to(x_sng) @ x_sng).double().cpu().transpose(0, 1)
                    support_tb[t] += member_bn.double() @ supports[t].score_n(module, part).double().cpu()
    return (sum_tbsg / kinds.n_b.view(-1, 1, 1)).numpy(), (support_tb / kinds.n_b).numpy()


def _expected(model: TrainedModel, module: VAE, cells: Cells, asked: Sequence[Asked], n_draws: int) -> Iterator[Tensor]:
    """Yield what is expected of the same draws under each condition."""
    z_snk, seen = latents_snk(module, cells, n_draws), module.sized(cells)
    for each in asked:
        x_sng = module.likelihood(z_snk, each.put(seen)).mean
        yield model.schema.transform.invert(x_sng, seen.size_n1)


def _compare(
    control_sg: NDArray[np.float64], mean_sg: NDArray[np.float64], counts: bool, tails: tuple[float, float]
) -> dict[str, Any]:
    """Compare the means of every draw, and their means over draws."""
    extra = PSEUDOCOUNT * control_sg.sum(-1).mean()

    def lfc(control: Any, mean: Any) -> Any:
        return np.log2((mean + extra) / (control + extra)) if counts else (mean - control) / np.log(2)

    lower_g, upper_g = np.quantile(lfc(control_sg, mean_sg), tails, axis=0)
    control_g, mean_g = control_sg.mean(0), mean_sg.mean(0)
    change_g = lfc(control_g, mean_g)
    return {"control_mean": control_g, "mean": mean_g, "lfc": change_g, "lower": lower_g, "upper": upper_g}


def _ranked(columns: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    table = table.iloc[np.argsort(-np.abs(table["lfc"].to_numpy()), kind="stable")]
    return table.assign(rank=np.arange(1, len(table) + 1))
