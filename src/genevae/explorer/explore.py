"""The explorer of a trained model: a page to look at cells, to change their condition, and to read the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Condition
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Categorical, Schema
from genevae.data.states import state_fields, state_table
from genevae.errors import DataError, shorten, warn
from genevae.explorer.answers import AnswerTable, Support, answer_tables, dose_levels, support_table
from genevae.explorer.decoder import decoder_arrays, require_decoder
from genevae.explorer.page import packed_matrix, packed_tree, render
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.gmt import numbered, read_gene_sets
from genevae.io.overwrite import require_free
from genevae.metrics.latent import shown_fields
from genevae.nn.dose import RESOLUTION
from genevae.plotting.projections import MAPS, TITLES, has_umap, project_2d
from genevae.report.packing import Packer
from genevae.report.records import Map
from genevae.tasks.condition import GOLDEN
from genevae.tasks.decode import SIZE
from genevae.tasks.inference import TrainedModel, evaluation_mode, open_cells, posteriors
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["explore", "kept_obs"]

MAX_CELLS, FEWEST_CELLS = 20_000, 500
"""Cells of the map, at most; and at least, where the page would be larger than it should be."""
MAX_BYTES = 4_800_000
"""Of a page of 2,000 genes, so that it can be mailed; pages of more genes are larger."""
ANSWER_BYTES = 1_300_000
"""Of the answers in a page, in about as many genes."""
MAX_FIELDS = 12
"""Fields that the map can be coloured by."""
BASE64 = 4 / 3
LEAST_SPREAD = 1e-3
"""Of the second direction of a map, as a share of the first: less is nothing but rounding."""
UMAP_CELLS = 5_000
"""Cells that a UMAP is computed from; each other one is put between its nearest."""
FEWEST_GENES = 3
"""Genes of a gene set that the model has, at least."""


@task
def explore(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path | None = None,
    *,
    out: str | Path,
    projection: Literal["pca", "umap", "tsne"] = "pca",
    cells: int = MAX_CELLS,
    gene_sets: str | Path | None = None,
    interval: float = 0.9,
    layer: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write the explorer of a model: one HTML file that runs its decoder in the browser, without a network.

    The page has a map of cells. For a cell, a group or a place of the map, every condition can be set by a menu and
    every dose by a slider, and two conditions are compared: genes that change most, a volcano plot, gene sets, and a
    gene over all conditions. Expression is what the decoder predicts, computed in the page. Changes with intervals are
    the answers of :func:`~genevae.tasks.counterfactual.counterfactual` for groups of cells, computed here. Support says
    how many training cells were like these; where none were, results are grey.

    Parameters
    ----------
    model
        A trained model, of any recipe but the convolutional ones.
    data
        Cells with the model's genes and conditions. Without them, the map shows training cells that the model keeps,
        and there are no intervals.
    out
        The HTML file to write.
    projection
        How the latent becomes a map: "pca", or "umap" or "tsne", which take longer.
    cells
        Cells of the map, sampled where there are more; fewer where the page would be above 5 MB.
    gene_sets
        A GMT file of gene sets.
    interval
        Share of the intervals that hold the change that would be measured.
    layer
        The layer that holds the expression, or "raw"; X by default.
    seed
        Of all random choices.
    overwrite
        Whether to replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If the browser cannot run the decoder of the recipe, genes, columns or categories do not fit the model, or no
        gene set has genes of the model.
    RunError
        If the file exists, or is none of HTML.
    """
    out = Path(out)
    recipe = str(getattr(getattr(model, "recipe", None), "name", "unknown"))
    require_decoder(model.module, recipe)
    _require_options(out, projection, cells, interval)
    require_free(out, overwrite, [data, gene_sets, model])
    sets = _gene_sets(gene_sets, model.schema)
    loader = None if data is None else open_cells(model, data, layer, 512)
    if loader is not None and loader.sampler.n_cells < 3:
        raise DataError(f"The explorer needs three cells or more, and the data have {loader.sampler.n_cells}.")
    with evaluation_mode(model) as module:
        decoder = decoder_arrays(module, model.schema)
    page = _Page(model, decoder, sets, interval)
    most = max(1, int(ANSWER_BYTES / (4 * BASE64 * len(model.schema.genes))))
    tables = [] if loader is None else answer_tables(model, loader, interval, seed, most)
    page.add_answers(tables)
    n = page.room_for(cells)
    shown = _kept_cells(model, n, seed) if loader is None else _read_cells(model, loader, n, seed)
    page.add_cells(shown, tables, _map(projection, to_array(shown.z_nk), seed), TITLES[projection])
    names = {"recipe": recipe, "run": _path_of(model), "data": _name_of(data), "read": _readable(data)}
    with staging_folder(out) as folder:
        (folder / out.name).write_text(page.html(names), encoding="utf-8")
        replace_with(folder / out.name, out)
    if n_left := sum(table.n_left_out for table in tables):
        warn(f"{n_left:,} answers for the smallest groups were left out, to keep the page small.")
    return out


def _require_options(out: Path, projection: str, cells: int, interval: float) -> None:
    if out.suffix.lower() not in {".html", ".htm"}:
        raise DataError(f"The explorer is a page: give a name that ends in .html, not {out.name}.")
    if projection not in MAPS:
        raise DataError(f"There is no projection '{projection}'. There are: {shorten(list(MAPS))}.")
    if projection == "umap" and not has_umap():
        raise DataError("A UMAP needs umap-learn, which is not installed: pip install 'genevae[umap]'. Or use pca.")
    if cells < 3 or not 0 < interval < 1:
        raise DataError(f"cells must be 3 or more and interval between 0 and 1, not {cells} and {interval}.")


def _map(projection: str, z_nk: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return the place of each cell; where the latent varies in one direction only, the other spreads the cells."""
    xy = project_2d(projection, z_nk, seed, UMAP_CELLS)
    if np.ptp(xy[:, 1]) < LEAST_SPREAD * np.ptp(xy[:, 0]):
        xy[:, 1] = GOLDEN * np.arange(len(xy)) % 1
    return xy


def _gene_sets(path: str | Path | None, schema: Schema) -> dict[str, tuple[int, ...]]:
    """Read gene sets as the numbers of the model's genes."""
    if path is None:
        return {}
    read = read_gene_sets(path)
    kept = numbered(read, schema.genes, FEWEST_GENES)
    if not kept:
        genes = next(iter(read.values()))
        raise DataError(
            f"No gene set of {path} has {FEWEST_GENES} genes of the model. Its genes are named like "
            f"{shorten(list(genes), 3)}, those of the model like {shorten(list(schema.genes), 3)}."
        )
    return kept


@dataclass(frozen=True, eq=False)
class _Cells:
    """The cells of the map.

    Parameters
    ----------
    obs
        Their table.
    row_n
        Their rows in the data.
    z_nk
        Their latents.
    condition
        Their conditions.
    log_sum_n
        For counts, log Σ exp(logit) over genes in their own condition.
    state_n
        Their states, as text.
    """

    obs: pd.DataFrame
    row_n: NDArray[np.int64]
    z_nk: Tensor
    condition: Condition
    log_sum_n: Tensor | None
    state_n: pd.Series[str]


def _read_cells(model: TrainedModel, loader: Loader, n: int, seed: int) -> _Cells:
    """Read a sample of the cells, and embed them."""
    row_n = np.arange(len(loader.source))
    if len(row_n) > n:
        row_n = np.sort(np.random.default_rng(seed).choice(row_n, n, replace=False))
    z_nk, _, condition = posteriors(model, loader.over(InOrder(row_n, 512)))
    return _cells(model, loader.source.obs.iloc[row_n], row_n, z_nk, condition)


def kept_obs(model: TrainedModel) -> pd.DataFrame:
    """Return the conditions of the training cells that a model keeps."""
    condition = model.reference.condition
    columns: dict[str, Any] = {
        c.name: np.array(c.labels, dtype=object)[condition.codes[c.name].numpy()] for c in model.schema.categorical
    }
    columns |= {c.name: condition.values[c.name].numpy() * c.scale + c.mean for c in model.schema.continuous}
    return pd.DataFrame(columns, index=[f"training cell {row + 1}" for row in range(model.reference.n_cells)])


def _kept_cells(model: TrainedModel, n: int, seed: int) -> _Cells:
    """Take the training cells that the model keeps."""
    row_n = np.arange(model.reference.n_cells)
    if len(row_n) > n:
        row_n = np.sort(np.random.default_rng(seed).choice(row_n, n, replace=False))
    kept = model.reference.take(torch.from_numpy(row_n))
    obs = kept_obs(model).iloc[row_n]
    return _cells(model, obs, row_n, kept.mean_nk, kept.condition)


def _cells(
    model: TrainedModel, obs: pd.DataFrame, row_n: NDArray[np.int64], z_nk: Tensor, condition: Condition
) -> _Cells:
    schema = model.schema
    known = state_table(obs, schema, state_fields(schema, (), obs))
    state_n = known.agg(", ".join, axis=1) if known.shape[1] else pd.Series("all cells", index=obs.index)
    return _Cells(obs, row_n, z_nk, condition, _log_sums(model, z_nk, condition), state_n)


def _log_sums(model: TrainedModel, z_nk: Tensor, condition: Condition) -> Tensor | None:
    likelihood = model.module.decoder
    if not hasattr(likelihood, "proportion"):
        return None
    part = cast("Any", likelihood)
    with evaluation_mode(model) as module:
        device = next(module.parameters()).device
        found = []
        for rows in torch.arange(len(z_nk)).split(2_000):
            given = condition.map(itemgetter(rows)).map(lambda t: t.to(device))
            logits = part.proportion.logits
            h = part.decoder(z_nk[rows].to(device), given)
            found.append((logits(h) + logits.bias).logsumexp(-1).cpu())
    return torch.cat(found)


class _Page:
    """The content of the page, as it is collected."""

    def __init__(
        self, model: TrainedModel, decoder: Mapping[str, Any], sets: Mapping[str, tuple[int, ...]], interval: float
    ) -> None:
        self.model, self.packer = model, Packer()
        self.content: dict[str, Any] = {
            "genes": list(model.schema.genes),
            "counts": decoder["counts"],
            "size": SIZE,
            "interval": interval,
            "decoder": packed_tree(decoder, self.packer),
            "sets": dict(sets),
            "answers": [],
            "nested": [vars(nesting) for nesting in model.schema.nested],
        }

    def add_answers(self, tables: Sequence[AnswerTable]) -> None:
        """Add the answers of Python, with their intervals."""
        for table in tables:
            pairs = list(table.answers)
            answers = [table.answers[pair].answer for pair in pairs]
            n_genes = len(self.model.schema.genes)
            shift_mg = np.array([each.shift_g for each in answers]).reshape(len(pairs), n_genes)
            half_mg = np.array([each.half_width_g for each in answers]).reshape(len(pairs), n_genes)
            known_m = np.isfinite(half_mg).all(1)
            self.content["answers"].append({
                "fields": list(table.fields),
                "groups": table.names,
                "sources": [group.source for group in table.groups],
                "n": [len(group.row_n) for group in table.groups],
                "targets": [dict(target) for target in table.targets],
                "pairs": [list(pair) for pair in pairs],
                "known": known_m.tolist(),
                "members": [_largest(each.weights) for each in answers],
                "shift": packed_matrix(shift_mg, self.packer),
                "half": packed_matrix(np.where(known_m[:, None], half_mg, 0), self.packer),
            })  # fmt: skip

    def room_for(self, cells: int) -> int:
        """Return how many cells there is room for."""
        used = sum(len(array["content"]) for array in self.packer.arrays)
        n_latent, n_fields = self.model.reference.mean_nk.shape[1], MAX_FIELDS + len(self.model.schema.fields)
        names = 24
        bytes_per_cell = BASE64 * (2 * n_latent + 4 + 4 + 2 + 1.5 * n_fields) + names
        room = int((MAX_BYTES * max(1.0, len(self.model.schema.genes) / 2_000) - used) / bytes_per_cell)
        return min(cells, max(FEWEST_CELLS, room))

    def add_cells(self, cells: _Cells, tables: Sequence[AnswerTable], xy: NDArray[Any], projection: str) -> None:
        """Add the cells of the map, the fields that can be set, and the support of groups."""
        schema, packer = self.model.schema, self.packer
        fields = {name: x for name, x in shown_fields(cells.obs).items() if name in schema.fields}
        fields |= {name: x for name, x in shown_fields(cells.obs).items() if name not in fields}
        first = dict(list(fields.items())[:MAX_FIELDS])
        code_n, states = _states(cells, tables)
        support = support_table(self.model, cells.z_nk, code_n, len(states))
        self.content |= {
            "fields": [self._field(c, cells) for c in schema.covariates],
            "map": packer.pack(Map(title="Cells in the latent", spaces={projection: xy}, fields=first)),
            "names": [str(name) for name in cells.obs.index],
            "latent": [packer.coded(z_n) for z_n in to_array(cells.z_nk).T],
            "states": list(states),
            "state": packer.array(code_n.astype("<u2")),
            "support": self._support(support),
            "log_sum": None if cells.log_sum_n is None else packer.array(cells.log_sum_n.numpy().astype("<f4")),
        }
        for content, table in zip(self.content["answers"], tables, strict=True):
            content["group"] = packer.array(table.group_of(cells.row_n).astype("<u2"))

    def _field(self, covariate: Any, cells: _Cells) -> dict[str, Any]:
        """Return a field of the model, with its value in every cell."""
        if isinstance(covariate, Categorical):
            code_n = cells.condition.codes[covariate.name].numpy()
            return {
                "name": covariate.name,
                "labels": list(covariate.labels),
                "n_known": len(covariate.categories),
                "control": covariate.control,
                "technical": covariate.technical,
                "codes": self.packer.array(code_n.astype("<u2")),
            }
        value_n = cells.condition.values[covariate.name].numpy() * covariate.scale + covariate.mean
        value_n = np.where(
            np.abs(value_n) < RESOLUTION * abs(covariate.maximum), 0, value_n
        )  # as standardised in 32 bits
        levels = dose_levels(pd.Series(value_n))
        return {
            "name": covariate.name,
            "low": covariate.minimum,
            "high": covariate.maximum,
            "levels": levels if len(levels) <= 50 else [],
            "is_dose": covariate.minimum == 0 and self.content["decoder"].get("condition", {}).get("dose") is not None,
            "values": self.packer.array(value_n.astype("<f4")),
        }

    def _support(self, support: Support) -> dict[str, Any]:
        share_cm = np.rint(255 * support.share_cm).astype(np.uint8)
        return {
            "fields": list(support.fields),
            "keys": {"|".join(map(str, codes)): number for number, codes in enumerate(support.combinations)},
            "columns": len(support.combinations),
            "seen": support.seen_m.tolist(),
            "share": self.packer.array(share_cm.ravel()),
        }

    def html(self, names: Mapping[str, str]) -> str:
        """Return the page."""
        content = {**self.content, "about": dict(names)}
        return render(f"{names['recipe']} model of {names['data'] or 'training cells'} · genevae", content, self.packer)


def _states(cells: _Cells, tables: Sequence[AnswerTable]) -> tuple[NDArray[np.int64], Sequence[str]]:
    """Return the state of each cell, by number: the groups of the answers, or combinations of conditions."""
    if not tables:
        code_n, states = pd.factorize(cells.state_n, sort=True)
        return np.asarray(code_n, dtype=np.int64), [str(state) for state in states]
    return tables[0].group_of(cells.row_n), tables[0].names


def to_array(x: Tensor) -> NDArray[Any]:
    """Return a tensor as an array."""
    return x.cpu().numpy()


def _largest(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights that are not zero, to a thousandth."""
    return {name: round(float(weight), 3) for name, weight in weights.items() if weight >= 5e-4}


def _path_of(model: TrainedModel) -> str:
    folder = getattr(model, "folder", None)
    return "" if folder is None else Path(folder).name


def _name_of(data: Any) -> str:
    path = getattr(data, "path", data)
    return Path(path).name if isinstance(path, str | Path) else "" if data is None else "cells in memory"


def _readable(data: Any) -> str:
    """Return the name of the data for commands, without the folders of this machine; nothing where it is no file."""
    path = getattr(data, "path", data)
    return Path(path).name if isinstance(path, str | Path) else ""
