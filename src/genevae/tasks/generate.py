"""New cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from genevae.cells import Condition
from genevae.data.schema import Schema
from genevae.distributions import ExpressionDistribution
from genevae.errors import CategoryError, DataError, nearest, shorten
from genevae.models.reference import Reference
from genevae.models.vae import VAE
from genevae.tasks.condition import Asked, every_combination, parse_condition
from genevae.tasks.inference import TrainedModel, evaluation_mode, require_size, seeded
from genevae.tasks.output import Answer, require_writable, sparsely, values_note

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.write.anndata import Block

__all__ = ["generate"]

LATENTS = ("aggregate", "prior")


def generate(
    model: TrainedModel,
    *,
    n: int = 1000,
    condition: Mapping[str, str | Sequence[str]] | None = None,
    per_category: Mapping[str, int] | None = None,
    latent: Literal["aggregate", "prior"] = "aggregate",
    size: float | None = None,
    batch_size: int = 512,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> AnnData:
    """Generate cells of some conditions.

    z first, then x ~ p(x | z, c). Every new cell starts from a remembered training cell of the asked condition, whose
    size it takes, and whose other fields; each of them serves once before any serves again, so that few new cells are
    as varied as the training cells were. Where no training cell had that condition, those that agree in most of the
    fields serve.

    Parameters
    ----------
    model
        A trained model.
    n
        Cells of each condition.
    condition
        The condition, as FIELD=VALUE; every combination, where a field has several values.
    per_category
        Cells of every category of a field, as FIELD=N, in place of n; the condition may set other fields.
    latent
        Draw z from the posterior of the remembered cell, which together is the aggregate posterior; or from the prior,
        which a trained model never matches quite.
    size
        Counts per cell; by default those of the remembered cell.
    batch_size
        Cells in one step.
    seed
        Of the draws.
    out
        Write the answer here, as it comes, and return its tables: .h5ad or .zarr; .npy, for the expression alone; .h5,
        one batch file; or .mtx, a folder as Cell Ranger's.
    overwrite
        Whether a store that is there is replaced.

    Returns
    -------
    AnnData
        n cells per condition (counts, or log-normalised values, as ``uns["genevae"]`` says),
        their fields in obs; CSR where most values are zero.

    Raises
    ------
    CategoryError
        If a field or a category is unknown.
    DataError
        If n or size is not positive, or a size is asked of a model of anything but counts.
    """
    require_size(model, size)
    if batch_size < 1:
        raise DataError(f"batch_size must be 1 or more, not {batch_size}.")
    if latent not in LATENTS:
        raise DataError(f"There is no latent '{latent}' to draw from. {nearest(latent, LATENTS)}")
    wanted = _wanted(model.schema, n, condition or {}, per_category or {})
    require_writable(out, overwrite)
    with seeded(model.module, seed):
        start = [_start(model.reference, each, count) for each, count in wanted]
    target = Condition.join([each.put(cells.condition) for (each, _), cells in zip(wanted, start, strict=True)])
    if size is not None:
        target = target.with_size(torch.full_like(target.size_n1, size))
    cells = Reference(torch.cat([each.mean_nk for each in start]), torch.cat([each.scale_nk for each in start]), target)
    pieces = _pieces(model, cells, latent, batch_size, seed)
    return Answer(describe(model.schema, target), model.schema.genes, pieces, values_note(model.schema)).give(out)


def _pieces(model: TrainedModel, cells: Reference, latent: str, batch_size: int, seed: int) -> Iterator[Block]:
    as_csr = None
    with evaluation_mode(model) as module, seeded(module, seed + 1):  # the first seed has drawn the cells
        for at in torch.arange(cells.n_cells).split(batch_size):
            p = _expression(module, cells.take(at), latent)
            x_ng = model.schema.transform.draw(p, cells.condition.size_n1[at])
            as_csr = bool((x_ng == 0).float().mean() > 0.5) if as_csr is None else as_csr
            yield {"X": sparsely(x_ng, as_csr)}


def _wanted(
    schema: Schema, n: int, condition: Mapping[str, str | Sequence[str]], per_category: Mapping[str, int | str]
) -> list[tuple[Asked, int]]:
    """Return what is asked for, and how many cells of each."""
    if twice := set(condition) & set(per_category):
        raise CategoryError(
            f"Every category of {shorten(sorted(twice))} is asked for, and single ones too. Choose one."
        )
    runs: list[tuple[Mapping[str, object], int]] = [
        ({**condition, name: schema.categorical_field(name).categories}, _count(count, name))
        for name, count in per_category.items()
    ] or [(condition, _count(n, "n"))]
    return [(parse_condition(schema, words), count) for each, count in runs for words in every_combination(each)]


def _count(given: int | str, name: str) -> int:
    """Return a number of cells, perhaps from a text."""
    if not str(given).isdecimal() or int(given) < 1:
        raise DataError(f"The cells of each condition must be a whole number above 0, not {name}={given}.")
    return int(given)


def _start(reference: Reference, asked: Asked, n: int) -> Reference:
    """Draw remembered cells that agree best with what is asked; each serves once before any serves again."""
    rows = reference.nearest_rows(asked.codes)
    rounds = -(-n // len(rows))
    return reference.take(rows[torch.rand(rounds, len(rows)).argsort(1).flatten()[:n]])


def _expression(module: VAE, cells: Reference, latent: str) -> ExpressionDistribution:
    """Draw z of some cells, from their posterior or from the prior of their condition, and return p(x | z, c)."""
    cells = cells.to(next(module.parameters()).device)
    mean, scale = cells.mean_nk, cells.scale_nk
    if latent == "prior":
        p = module.prior(cells.condition)
        mean, scale = p.mean, p.scale
    return module.likelihood(mean + scale * torch.randn_like(mean), cells.condition)


def describe(schema: Schema, condition: Condition) -> pd.DataFrame:
    """Write a condition as an obs table: categories and values in their own words and units, and size."""
    obs: dict[str, Any] = {
        field.name: pd.Categorical.from_codes(condition.codes[field.name].numpy(), list(field.labels))
        for field in schema.categorical
    }
    obs |= {f.name: condition.values[f.name].numpy() * f.scale + f.mean for f in schema.continuous}
    obs["size"] = condition.size_n1.squeeze(-1).numpy()
    return pd.DataFrame(obs, index=[f"generated_{i}" for i in range(condition.n_cells)])
