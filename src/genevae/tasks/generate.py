"""Generation of new cells."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from torch import Tensor

from genevae.cells import Condition
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.distributions import ExpressionDistribution
from genevae.engine import Block, Plan, Workers
from genevae.errors import CategoryError, DataError, nearest, shorten
from genevae.io.ram import available_bytes
from genevae.models.marginals import Marginals
from genevae.models.mixture import Mixture
from genevae.models.reference import Reference
from genevae.models.vae import VAE
from genevae.tasks.condition import TargetCondition, all_combinations, assigned, parse_condition
from genevae.tasks.inference import (
    PART,
    TrainedModel,
    draw_expression,
    evaluation_mode,
    require_size,
    seed_of_part,
    seeded,
)
from genevae.tasks.output import TaskOutput, csr_or_dense, free_column, require_writable, values_uns
from genevae.tasks.support import note_never_seen, seen_categories
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["generate"]

LATENTS = ("mixture", "aggregate", "prior")
MODEL_CELLS = 300
"""Cells that are sampled from a cluster to know where a value is among those of the model."""
MAX_VALUES = 20_000_000
"""Cells × genes at once, so that cells of one cluster are sampled together."""


@task
def generate(
    model: TrainedModel,
    n: int = 1000,
    condition: Mapping[str, str | Sequence[str]] | str | None = None,
    *,
    per_category: Mapping[str, int] | None = None,
    latent: Literal["mixture", "aggregate", "prior"] = "mixture",
    copula: bool = True,
    size: float | None = None,
    mean: bool = False,
    batch_size: int = 512,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    executor: Workers | None = None,
) -> AnnData:
    """Generate cells in given conditions.

    z and the size first, then x ~ p(x | z, c), then the values of x are replaced by values of training cells with the
    same rank. Every new cell starts from a reference cell: a training cell in the target condition, kept with the
    model. The new cell takes its other covariates; its latent and its log size are sampled from the normal distribution
    of the cells of its cluster: about 60 cells with the same categories, and similar latents and sizes. Reference cells
    are used without replacement until all have been used, so that even a few new cells are as diverse as the training
    cells.

    The model is a copula: it says which cells have much of a gene, and together with which other genes; how much that
    is, the training cells say. With F the distribution of the gene's values among cells that the model samples from the
    cluster, and F* that among the training cells of the cluster, x* = F*⁻¹(F(x)), with ties broken at random. Then no
    value is beyond those of training. Cells in a condition that no training cell has have no F*: their latents are
    those of the reference cells that agree in most covariates, and their values are the model's own.

    Negative binomials have heavy tails. So counts of the model are sampled from p(x | z, c) truncated at twice the
    largest count of the gene among the reference cells, and at 1.5 times the largest of all genes; sizes are within
    those of training, unless a size is given. Of log-normalised expression, no value is negative, and each gene has the
    share of zeros that it had in training.

    Parameters
    ----------
    model
        A trained model.
    n
        Cells per condition.
    condition
        The target condition, as FIELD=VALUE; the value alone where one field has it. Covariates with several values
        give all combinations.
    per_category
        Cells per category of a covariate, as FIELD=N, instead of n. The condition may set other covariates.
    latent
        "mixture": sample z and the log size from the normal distributions of clusters. "aggregate": sample z from the
        posteriors of the reference cells, which form the aggregate posterior, with their sizes. "prior": sample z from
        the prior, which never matches the aggregate posterior exactly.
    copula
        Whether values are replaced by those of training cells; only with latent "mixture", and without size and mean.
        Models whose counts add up to the size exactly, such as ``convolutional``, keep their own.
    size
        Counts per cell; by default sampled with the latent.
    mean
        Return E[x | z, c] instead of a sample of x: cells that differ by their latent, without the noise of expression.
    batch_size
        Cells in one step.
    seed
        Seed of the samples.
    out
        Write the result to this path block by block, and return its tables: .h5ad or .zarr; .npy, for X alone; .h5, one
        batch file; or .mtx, a folder in Cell Ranger's format.
    overwrite
        Whether to replace an existing result.
    executor
        Where the cells are computed: "processes:4", "dask:ADDRESS", "submitit:PARTITION", a pool, a ``Client`` of Dask
        or an executor of submitit; by default this process. The result does not depend on it.

    Returns
    -------
    AnnData
        n cells per condition, with their covariates in obs. X holds counts or log-normalised values (see
        ``uns["genevae"]``), as CSR if most values are zero.

    Raises
    ------
    CategoryError
        If a covariate or a category is unknown.
    DataError
        If n or size is not positive, or a size is given but the model does not return counts.
    """
    require_size(model, size)
    if batch_size < 1:
        raise DataError(f"batch_size must be 1 or more, not {batch_size}.")
    if latent not in LATENTS:
        raise DataError(f"Unknown latent '{latent}'. {nearest(latent, LATENTS)}")
    targets = _targets(model, n, assigned(model.schema, condition or {}), per_category or {})
    require_writable(out, overwrite, model)
    _require_room(model, sum(count for _, count in targets), written=out is not None)
    plan = Plan(
        _generated, model=model, targets=targets, latent=latent, copula=copula, size=size, mean=mean,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    obs = _condition_obs(model.schema, plan.here.cells.condition)
    uns = values_uns(model.schema, limited=not mean and model.reference.limits is not None)
    return TaskOutput(obs, model.schema.genes, plan, uns).to_anndata(out, executor=executor)


def _generated(
    model: TrainedModel, targets: Sequence[tuple[TargetCondition, int]], latent: str, copula: bool, size: float | None,
    mean: bool, batch_size: int, seed: int,
) -> _Generation:  # fmt: skip
    exact = model.schema.output_kind.is_count and not model.schema.has_noise_model  # counts that add up to the size
    mapped = latent == "mixture" and copula and not mean and size is None and not exact
    with seeded(model.module, seed):
        clusters = model.reference.clusters
        mixture = Mixture(model.reference, clusters) if latent == "mixture" and clusters is not None else None
        starts = [_sample_reference(model.reference, mixture, target, count) for target, count in targets]
    new = Condition.join(
        [target.apply(cells.condition) for (target, _), (cells, _) in zip(targets, starts, strict=True)]
    )
    if size is not None:
        new = new.with_size(torch.full_like(new.size_n1, size))
    elif model.reference.limits is not None:
        new = new.with_size(model.reference.limits.of_sizes(new.size_n1))
    mean_nk, scale_nk = (torch.cat([getattr(cells, name) for cells, _ in starts]) for name in ("mean_nk", "scale_nk"))
    cluster_n = torch.cat([cluster_n for _, cluster_n in starts])
    cells = Reference(mean_nk, scale_nk, new)
    return _Generation(model, cells, latent, mean, batch_size, seed + 1, mixture if mapped else None, cluster_n)


@dataclass(frozen=True, eq=False)
class _Generation:
    """New cells before they have expression: their latents and conditions, and how expression is sampled.

    A part is the cells that are sampled together. Its seed is another than that of the latents.
    """

    model: TrainedModel
    cells: Reference
    latent: str
    mean: bool
    batch_size: int
    seed: int
    mixture: Mixture | None
    cluster_n: Tensor

    @property
    def at_once(self) -> int:
        """Cells of a part: with a mixture as many as fit, because those of one cluster are sampled together."""
        if self.mixture is None:
            return max(1, PART // self.batch_size) * self.batch_size
        return max(self.batch_size, MAX_VALUES // len(self.model.schema.genes))

    @property
    def n_parts(self) -> int:
        """The number of parts."""
        return -(-self.cells.n_cells // self.at_once)

    def blocks(self, parts: range) -> Generator[Block, None, None]:
        """Yield the cells of some parts; as CSR where most values of a part are zero."""
        with evaluation_mode(self.model) as module, seeded(module, self.seed):
            for number in parts:
                torch.manual_seed(seed_of_part(self.seed, number))
                rows = torch.arange(self.cells.n_cells)[number * self.at_once : (number + 1) * self.at_once]
                as_csr = None
                for x_ng in self._expression(module, rows):
                    as_csr = bool((x_ng == 0).float().mean() > 0.5) if as_csr is None else as_csr
                    for part in x_ng.split(self.batch_size):
                        yield {"X": csr_or_dense(part, as_csr)}

    def _expression(self, module: VAE, rows: Tensor) -> Iterator[Tensor]:
        if self.mixture is not None:
            cells, cluster_n = self.cells.take(rows), self.cluster_n[rows]
            yield _as_observed(self.model, module, self.mixture, cells, cluster_n, self.batch_size)
            return
        for at in rows.split(self.batch_size):
            p, size_n1 = _expression(module, self.cells.take(at), self.latent), self.cells.condition.size_n1[at]
            yield _expected(self.model.schema, p, size_n1) if self.mean else draw_expression(self.model, p, size_n1)


def _as_observed(
    model: TrainedModel, module: VAE, mixture: Mixture, cells: Reference, cluster_n: Tensor, batch_size: int
) -> Tensor:
    """Sample expression, and replace it by values of the training cells of the cluster that have the same rank."""

    def sampled(some: Reference) -> Tensor:
        parts = []
        for at in torch.arange(some.n_cells).split(batch_size):
            p = _expression(module, some.take(at), "mixture")
            parts.append(draw_expression(model, p, some.condition.size_n1[at]))
        return torch.cat(parts)

    x_ng = torch.empty(cells.n_cells, len(model.schema.genes))
    for number in cluster_n.unique().tolist():
        here = (cluster_n == number).nonzero().squeeze(-1)
        values_ng = sampled(cells.take(here))
        if number >= 0:
            others_ng = sampled(mixture.of_cluster(number, MODEL_CELLS))
            of_model = Marginals.of(torch.cat([others_ng, values_ng]).numpy())
            rank_ng = of_model.ranks(values_ng.numpy(), torch.rand(values_ng.shape).numpy())
            values_ng = torch.from_numpy(mixture.clusters.marginals[number].quantiles(rank_ng)).float()
        x_ng[here] = values_ng
    return x_ng


def _expected(schema: Schema, p: ExpressionDistribution, size_n1: Tensor) -> Tensor:
    """Return the mean of p, in the units of the result; logarithms of expression are not negative."""
    x_ng = schema.transform.invert(p.mean, size_n1)
    return x_ng.clamp(min=0) if schema.output_kind is Kind.LOG else x_ng


def _targets(
    model: TrainedModel, n: int, condition: Mapping[str, str | Sequence[str]], per_category: Mapping[str, int | str]
) -> list[tuple[TargetCondition, int]]:
    """Return the target conditions, and the number of cells of each.

    All categories of a field are those that training cells have; others are known by their vectors alone, and must be
    named.
    """
    schema = model.schema
    if twice := set(condition) & set(per_category):
        raise CategoryError(
            f"{shorten(sorted(twice))} is in both condition (--set) and per_category (--per-category). Choose one."
        )
    for name, values in condition.items():
        for value in [values] if isinstance(values, str) else values:
            note_never_seen(model, {name: value})
    options: list[tuple[Mapping[str, object], int]] = [
        ({**condition, name: _all_of(model, name)}, _count(count, name)) for name, count in per_category.items()
    ] or [(condition, _count(n, "n"))]
    return [(parse_condition(schema, each), count) for values, count in options for each in all_combinations(values)]


def _all_of(model: TrainedModel, name: str) -> list[str]:
    field = model.schema.categorical_field(name)
    if field.embedding is None:
        return list(field.categories)
    seen = seen_categories(model, name)
    return [category for category in field.categories if category in seen]


def _require_room(model: TrainedModel, n: int, written: bool) -> None:
    """Check that the cells, or what is kept of each while they are written, fit in memory."""
    n_bytes = 4 * n * (3 * model.reference.mean_nk.shape[1] + (0 if written else len(model.schema.genes)))
    if n_bytes > available_bytes():
        raise DataError(
            f"{n:,} cells need {n_bytes / 1e9:,.3g} GB of memory, and {available_bytes() / 1e9:,.3g} GB are free. "
            "Generate fewer at once, with other seeds" + ("." if written else ", or write them with out (--out).")
        )


def _count(given: int | str, name: str) -> int:
    """Parse a number of cells."""
    if not str(given).isdecimal() or int(given) < 1:
        raise DataError(f"The number of cells per condition must be a whole number above 0, not {name}={given}.")
    return int(given)


def _sample_reference(
    reference: Reference, mixture: Mixture | None, target: TargetCondition, n: int
) -> tuple[Reference, Tensor]:
    """Sample the reference cells that agree best with the target, each once before any is used again.

    With a mixture, cells like these are sampled. Also returns the cluster whose values the new cells take; −1 for none,
    as where no reference cell has the target condition.
    """
    rows = reference.nearest_rows(target.codes)
    rounds = -(-n // len(rows))
    chosen = rows[torch.rand(rounds, len(rows)).argsort(1).flatten()[:n]]
    if mixture is None:
        return reference.take(chosen), torch.full((n,), -1)
    seen = not target.values and int(reference.agreement_n(target.codes)[rows[0]]) == len(target.codes)
    return mixture.like(chosen), mixture.clusters.cluster_n[chosen] if seen else torch.full((n,), -1)


def _expression(module: VAE, cells: Reference, latent: str) -> ExpressionDistribution:
    """Sample z from the posterior of the cells or from the prior of their condition, and return p(x | z, c)."""
    cells = cells.to(next(module.parameters()).device)
    mean, scale = cells.mean_nk, cells.scale_nk
    if latent == "prior":
        p = module.prior(cells.condition)
        if p.event_shape:
            return module.likelihood(p.sample(), cells.condition)
        mean, scale = p.mean, p.stddev
    return module.likelihood(mean + scale * torch.randn_like(mean), cells.condition)


def _condition_obs(schema: Schema, condition: Condition) -> pd.DataFrame:
    """Return a condition as an obs table: category names, values in the units of the data, and size."""
    obs: dict[str, Any] = {
        field.name: pd.Categorical.from_codes(condition.codes[field.name].numpy(), list(field.labels))
        for field in schema.categorical
    }
    obs |= {f.name: condition.values[f.name].numpy() * f.scale + f.mean for f in schema.continuous}
    table = pd.DataFrame(obs, index=[f"generated_{i}" for i in range(condition.n_cells)])
    return table.assign(**{free_column(table, "size"): condition.size_n1.squeeze(-1).numpy()})
