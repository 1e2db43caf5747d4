"""Genes whose expression differs between groups of cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Schema
from genevae.errors import CategoryError, DataError, nearest, shorten, warn
from genevae.models.prior import log_prior_n
from genevae.models.vae import VAE
from genevae.responses.empirical_bayes import change_posterior, expected_false_share
from genevae.responses.replicates import ReplicateTest, paired_test, unpaired_test
from genevae.tasks.groups import chosen_groups, group_names, known_groups
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells, seeded
from genevae.tasks.posterior_expectation import in_blocks, latents_snk
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["differential_expression"]

REST = "rest"
"""All cells of other groups."""
MOST_BATCHES = 10
"""Technical batches that are averaged over, at most."""
MOST_RATIO = 10.0
"""How much a gene of a cell is corrected for its batch, at most."""
LEAST_CELLS = 10
"""Cells that a replicate has in a group, at least."""
LEAST_GROUP = 3
"""Cells of a group, at least."""
SMALL = 1e-12

Numbers = NDArray[np.float64]


@task
def differential_expression(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    group_by: str,
    *,
    group1: str | Sequence[str] | None = None,
    group2: str | Sequence[str] | None = None,
    change: float = 0.25,
    fdr: float = 0.05,
    replicate: str | None = None,
    average_batches: bool = True,
    interval: float = 0.9,
    n_draws: int = 10,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
) -> pd.DataFrame:
    """Find the genes whose expression differs between two groups of cells by more than ``change``.

    For each gene, β is the log2 fold change of mean expression per count (for values that are logarithms: the
    difference of means, over ln 2), less that of a typical gene, which a change of composition causes. It is measured
    with the sampling noise of the cells, y ~ N(β, s²), and its prior is a mixture of no change and of changes of
    several sizes, whose weights are fitted to all genes. Genes are called where the expected share of false ones among
    them, the mean of 1 − P(abs(β) > change), is ``fdr`` or less.

    The model corrects cells of one technical batch to the mean of all, by the ratio that it expects. Beside the
    measured change stands the model's own: of means of expected expression, over z ~ q(z | x, c) with importance
    weights w ∝ p(x | z, c) p(z | c) / q(z | x, c). It decides nothing, because a model that was trained on the same
    cells repeats their noise.

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes and conditions.
    group_by
        The obs column of the groups.
    group1
        The groups to compare, each on its own; by default all.
    group2
        The group to compare with, or several that are taken together; by default all other cells.
    change
        The smallest absolute log2 fold change that counts.
    fdr
        The expected share of false ones among the genes that are called.
    replicate
        An obs column of independent replicates, such as the donor. The noise is then that between replicates, paired
        where replicates have both groups, and a moderated t-test of pseudobulk profiles is beside it. Without, cells
        count as independent, which says nothing about other donors.
    average_batches
        Whether to average over technical batches, where the model has them and they are not the groups.
    interval
        The probability that β is between ``lower`` and ``upper``.
    n_draws
        Samples from the posterior of each cell.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Of the samples.

    Returns
    -------
    DataFrame
        One row per comparison and gene, the most probable changes first: ``group1``, ``group2``, ``gene``, ``lfc`` (the
        mean of the posterior), ``lower``, ``upper``, ``probability`` of abs(β) > change, ``fdr`` (the expected share of
        false ones among the genes up to here), ``called``, ``measured_lfc`` (with that of a typical gene), ``error``
        (its standard error), ``model_lfc``, ``mean1`` and ``mean2`` (measured, for counts in a cell of mean size),
        ``n_cells1``, ``n_cells2``; with replicates also ``p_value`` and ``p_adjusted`` of the t-test. A group that too
        few replicates have is there too, with what was measured; the noise and what follows from it are missing.

    Raises
    ------
    CategoryError
        If a group is unknown, or has fewer than three cells, or no group has two replicates.
    DataError
        If genes, columns or categories do not fit the model, or a number is out of range.

    References
    ----------
    Lopez et al., Nature Methods 15:1053 (2018), and Boyeau et al., PNAS 120:e2209124120 (2023), for changes beyond a
    threshold, importance weights and the expected share of false ones; Stephens, Biostatistics 18:275 (2017), for the
    prior; Squair et al., Nature Communications 12:5692 (2021), on replicates.
    """
    if not (0 < fdr < 1 and 0 < interval < 1 and change >= 0 and n_draws >= 1):
        raise DataError(
            f"fdr and interval are between 0 and 1, change is 0 or more and n_draws 1 or more, not {fdr}, {interval}, "
            f"{change} and {n_draws}."
        )
    cells = open_cells(model, data, layer, batch_size)
    group_n = group_names(cells.source.obs, group_by)
    replicate_n = None if replicate is None else group_names(cells.source.obs, replicate)
    comparisons = _comparisons(group_n, group_by, group1, group2)
    batch = model.schema.batch if average_batches and model.schema.batch != group_by else None
    units = _Units.of(group_n, replicate_n)
    with evaluation_mode(model) as module, seeded(module, seed):
        units = _summed(module, model.schema, cells, units, batch, n_draws)
    tables, untested = [], []
    for one, others in comparisons:
        measured, facts = _measured(units, one, others, model.schema.output_kind.is_count, replicate)
        if replicate is not None and "p_value" not in facts:
            untested.append(one)
            facts |= {"p_value": np.nan, "p_adjusted": np.nan}
        posterior = change_posterior(measured.change_g, measured.error_g)
        names = {"group1": one, "group2": REST if group2 is None else ", ".join(others)}
        is_known_g = np.isfinite(measured.error_g)
        probability_g = np.where(is_known_g, posterior.probability_g(change), 0.0)
        share_g = expected_false_share(probability_g)
        columns = {
            "lfc": posterior.mean_g,
            "lower": posterior.quantile_g((1 - interval) / 2),
            "upper": posterior.quantile_g((1 + interval) / 2),
            "probability": probability_g,
            "fdr": share_g,
            "called": (share_g <= fdr) & is_known_g,
            "measured_lfc": measured.change_g,
            "error": measured.error_g,
            "model_lfc": measured.expected_g,
            **facts,
        }
        order = np.lexsort((-np.abs(posterior.mean_g), -probability_g))
        tables.append(pd.DataFrame({**names, "gene": list(model.schema.genes), **columns}).iloc[order])
        if one in untested:
            tables[-1][["lfc", "lower", "upper", "probability", "fdr", "error"]] = np.nan
    _explain_untested(untested, len(comparisons), group_by, replicate)
    return pd.concat(tables, ignore_index=True)


def _explain_untested(untested: Sequence[str], n: int, group_by: str, replicate: str | None) -> None:
    """Say which groups have no p-values.

    Raises
    ------
    CategoryError
        If no group has any.
    """
    why = f"fewer than two of '{replicate}' have {LEAST_CELLS} cells in them, or in those that they are compared with"
    if len(untested) == n:
        raise CategoryError(
            f"Groups of '{group_by}' cannot be compared between replicates, {shorten(untested, 3)}: {why}. Leave the "
            "replicate out, or compare others."
        )
    if untested:
        warn(f"Groups of '{group_by}' without p-values: {shorten(untested)}; {why}.")


def _comparisons(
    group_n: NDArray[np.object_], group_by: str, group1: str | Sequence[str] | None, group2: str | Sequence[str] | None
) -> list[tuple[str, list[str]]]:
    """Return each group with those that it is compared with."""
    known, counts = known_groups(group_n), pd.Series(group_n).value_counts()
    ones = known if group1 is None else chosen_groups(group1, group_n, group_by)
    others = None if group2 is None else chosen_groups(group2, group_n, group_by)
    small = [name for name in known if counts[name] < LEAST_GROUP]
    if group1 is None and 0 < len(small) < len(known):
        warn(f"Groups of '{group_by}' with fewer than {LEAST_GROUP} cells are left out: {shorten(small)}.")
        ones = [name for name in known if name not in small]
    for name in [*ones, *(others or [])]:
        if counts[name] < LEAST_GROUP:
            raise CategoryError(
                f"The group '{name}' of '{group_by}' has {counts[name]} cells; at least {LEAST_GROUP} are needed. "
                "Compare larger groups."
            )
    found = [(one, [each for each in (known if others is None else others) if each != one]) for one in ones]
    found = [(one, rest) for one, rest in found if rest]
    if not found:
        raise CategoryError(f"There is nothing to compare in '{group_by}'. {nearest('', known)}")
    return found


class _Measured(NamedTuple):
    """The measured change of each gene with its standard error, infinite where it is not known, and the model's."""

    change_g: Numbers
    error_g: Numbers
    expected_g: Numbers


@dataclass(frozen=True, eq=False)
class _Units:
    """The parts of the cells that sums are made of: a group, and a replicate.

    Parameters
    ----------
    unit_n
        The unit of each cell, −1 for cells without a group.
    group_t, replicate_t
        The group and the replicate of each unit.
    sums
        Sums over cells of each unit and gene: cells that measured it, expression, its square, and expected expression;
        for counts in a cell of mean size.
    """

    unit_n: NDArray[np.int64]
    group_t: NDArray[np.object_]
    replicate_t: NDArray[np.object_]
    sums: tuple[Numbers, Numbers, Numbers, Numbers] | None = None

    @classmethod
    def of(cls, group_n: NDArray[np.object_], replicate_n: NDArray[np.object_] | None) -> _Units:
        """Split the cells."""
        table = pd.DataFrame({"group": group_n, "replicate": "" if replicate_n is None else replicate_n})
        grouped = table[table["group"] != ""].groupby(["group", "replicate"], sort=True)
        unit_n = np.full(len(table), -1)
        unit_n[table["group"].to_numpy() != ""] = grouped.ngroup().to_numpy()
        keys = list(grouped.groups)
        return cls(
            unit_n,
            np.array([key[0] for key in keys], dtype=object),
            np.array([key[1] for key in keys], dtype=object),
        )

    def total(self, which_t: NDArray[np.bool_]) -> list[Numbers]:
        """Return the sums over some units, for each gene."""
        assert self.sums is not None  # noqa: S101 - they are made before they are used
        return [np.asarray(each[which_t].sum(0)) for each in self.sums]


def _summed(module: VAE, schema: Schema, cells: Loader, units: _Units, batch: str | None, n_draws: int) -> _Units:
    """Add up measured and expected expression in one pass; memory depends on the number of units alone."""
    counts = schema.output_kind.is_count
    sums = np.zeros((4, len(units.group_t), len(schema.genes)))
    row_n = np.flatnonzero(units.unit_n >= 0)
    total = 0.0
    for minibatch in on_device(module, cells.over(InOrder(row_n, 512))):
        for block in in_blocks(minibatch, n_draws + MOST_BATCHES):
            x_ng, expected_ng = _expression(module, schema, block, batch, n_draws)
            size_n1 = module.sized(block).size_n1 if counts else torch.ones_like(block.condition.size_n1)
            x_ng, expected_ng = (x_ng / size_n1).double(), (expected_ng / size_n1).double()
            total += float(size_n1.sum())
            measured_ng = block.condition.measured_ng
            known_ng = torch.ones_like(x_ng) if measured_ng is None else measured_ng.double()
            unit_m = torch.from_numpy(units.unit_n[block.row_n.cpu().numpy()]).to(x_ng.device)
            of_unit_tn = torch.nn.functional.one_hot(unit_m, len(units.group_t)).double().T
            parts = (known_ng, x_ng * known_ng, x_ng.square() * known_ng, expected_ng * known_ng)
            for at, part_ng in enumerate(parts):
                sums[at] += (of_unit_tn @ part_ng).cpu().numpy()
    n, x, square, expected = sums
    size = total / max(len(row_n), 1)
    return replace(units, sums=(n, x * size, square * size**2, expected * size))


def _expression(module: VAE, schema: Schema, cells: Cells, batch: str | None, n_draws: int) -> tuple[Tensor, Tensor]:
    """Return measured and expected expression of cells, as if they were of all batches; in the units of results."""
    condition = module.sized(cells)
    z_snk = latents_snk(module, cells, n_draws)
    weight_sn1 = _importance(module, cells, condition, z_snk).unsqueeze(-1)

    def expected(given: Condition) -> Tensor:
        mean_ng = (weight_sn1 * module.likelihood(z_snk, given).mean).sum(0)
        return schema.transform.invert(mean_ng, given.size_n1)

    as_it_is_ng = expected(condition)
    x_ng = schema.transform.invert(cells.x.dense(), cells.condition.size_n1)
    if batch is None:
        return x_ng, as_it_is_ng
    n = schema.n_categories[batch]
    codes = np.unique(np.linspace(0, n - 1, min(n, MOST_BATCHES)).round().astype(int)).tolist()
    given = [condition.replace({batch: torch.full_like(condition.codes[batch], code)}) for code in codes]
    mean_ng = torch.stack([expected(each) for each in given]).mean(0)
    if not schema.output_kind.is_count:
        return x_ng + mean_ng - as_it_is_ng, mean_ng
    ratio_ng = (mean_ng / as_it_is_ng.clamp(min=SMALL)).clamp(1 / MOST_RATIO, MOST_RATIO)
    return x_ng * ratio_ng, mean_ng


def _importance(module: VAE, cells: Cells, condition: Condition, z_snk: Tensor) -> Tensor:
    """Return the weights w ∝ p(x | z, c) p(z | c) / q(z | x, c) of each cell's samples, which add up to one."""
    q, prior = module.posterior(cells), module.prior(condition)
    log_px_sn = module.likelihood(z_snk, condition).log_prob_n(cells.x, condition.measured_ng)
    log_sn = log_px_sn + log_prior_n(prior, z_snk) - q.log_prob(z_snk).sum(-1)
    weight_sn: Tensor = log_sn.softmax(0)
    return weight_sn


def _measured(
    units: _Units, one: str, others: Sequence[str], counts: bool, replicate: str | None
) -> tuple[_Measured, dict[str, Any]]:
    """Return the measured change of each gene between cells, or between replicates, and the means."""
    is_one_t, is_other_t = units.group_t == one, np.isin(units.group_t, others)
    sides = [units.total(is_one_t), units.total(is_other_t)]
    measured = _change(sides, counts)
    facts: dict[str, Any] = {
        "mean1": sides[0][1] / np.maximum(sides[0][0], 1), "mean2": sides[1][1] / np.maximum(sides[1][0], 1),
        "n_cells1": sides[0][0].astype(int), "n_cells2": sides[1][0].astype(int),
    }  # fmt: skip
    if replicate is None:
        return measured, facts
    test = _replicate_test(units, is_one_t, is_other_t, counts)
    if test is None:
        return measured._replace(error_g=np.full_like(measured.error_g, np.inf)), facts
    facts |= {"p_value": test.p_value_g, "p_adjusted": test.fdr_g}
    error_g = np.where(np.isfinite(measured.error_g), test.error_g, np.inf)
    return measured._replace(change_g=test.shift_g, error_g=error_g), facts


def _change(sides: Sequence[Sequence[Numbers]], counts: bool) -> _Measured:
    """Return the change between two sides, its standard error, and the change of expected expression.

    The variance of the difference of means is the larger of Welch's and the pooled one. For counts its root is divided
    by a mean between the two, (a − b) / (ln a − ln b), so that the change over its error is that of the means. One
    count over all cells of the smaller side is added to the means of both.
    """
    (n1_g, x1_g, square1_g, expected1_g), (n2_g, x2_g, square2_g, expected2_g) = sides
    is_known_g = (n1_g >= LEAST_GROUP) & (n2_g >= LEAST_GROUP)
    n1_g, n2_g = np.maximum(n1_g, 1), np.maximum(n2_g, 1)
    mean1_g, mean2_g = x1_g / n1_g, x2_g / n2_g
    spread1_g, spread2_g = (np.maximum(sq - n * m**2, 0) for sq, n, m in
                            ((square1_g, n1_g, mean1_g), (square2_g, n2_g, mean2_g)))  # fmt: skip
    df_g = np.maximum(n1_g + n2_g - 2, 1)
    pooled_g = (spread1_g + spread2_g) / df_g * (1 / n1_g + 1 / n2_g)
    welch_g = spread1_g / (n1_g * np.maximum(n1_g - 1, 1)) + spread2_g / (n2_g * np.maximum(n2_g - 1, 1))
    error_g = np.sqrt(np.maximum(pooled_g, welch_g))
    expected1_g, expected2_g = expected1_g / n1_g, expected2_g / n2_g
    if not counts:
        change_g, expected_g, scale_g = mean1_g - mean2_g, expected1_g - expected2_g, np.ones_like(n1_g)
    else:
        extra_g = 1 / np.minimum(n1_g, n2_g)
        a_g, b_g = mean1_g + extra_g, mean2_g + extra_g
        change_g, expected_g = np.log(a_g / b_g), np.log((expected1_g + extra_g) / (expected2_g + extra_g))
        scale_g = np.where(np.abs(change_g) > 1e-6, (a_g - b_g) / np.where(change_g == 0, 1, change_g), a_g)
    error_g = np.where(is_known_g & (error_g > 0), error_g / scale_g, np.inf)
    return _Measured(change_g / np.log(2), error_g / np.log(2), expected_g / np.log(2))


def _replicate_test(
    units: _Units, is_one_t: NDArray[np.bool_], is_other_t: NDArray[np.bool_], counts: bool
) -> ReplicateTest | None:
    """Test pseudobulk profiles of replicates, paired where replicates have both groups."""
    one, other = (dict(_profiles(units, which_t, counts)) for which_t in (is_one_t, is_other_t))
    both = sorted(one.keys() & other.keys())
    if len(both) > 1:
        return paired_test(np.stack([one[name] - other[name] for name in both]))
    if one and other:
        return unpaired_test(np.stack(list(other.values())), np.stack(list(one.values())))
    return None


def _profiles(units: _Units, which_t: NDArray[np.bool_], counts: bool) -> Iterator[tuple[str, Numbers]]:
    """Yield the profile of each replicate, log2."""
    for name in sorted(set(units.replicate_t[which_t]) - {""}):
        n_g, x_g, *_ = units.total(which_t & (units.replicate_t == name))
        if n_g.max(initial=0) < LEAST_CELLS:
            continue
        mean_g = x_g / np.maximum(n_g, 1)
        yield name, np.log2(mean_g + 1 / n_g.max()) if counts else mean_g / np.log(2)
