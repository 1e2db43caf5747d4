"""What commands say at their end: what was found, in at most ten lines."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genevae.cli.options import other_options
from genevae.io.read_options import ReadOptions
from genevae.report.numbers import brief
from genevae.runs.signals import STOPPED

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from genevae.runs.trained import Trained

__all__ = [
    "cluster_lines",
    "contribution_lines",
    "counterfactual_lines",
    "dose_lines",
    "effect_lines",
    "genes_of",
    "influence_lines",
    "next_commands",
    "option_arguments",
    "progress_of",
]

MOST_LINES, MOST_GENES = 7, 3
"""Groups that have a line, and genes that it names in each direction."""
STABLE, UNSTABLE, SUPPORTED = 0.75, 0.5, 0.1


def cluster_lines(table: pd.DataFrame) -> Iterator[str]:
    """Say how many clusters there are, how large, and which are stable."""
    each = table.groupby("cluster")["stability"].agg(["size", "first"])
    agreement = table["agreement"].iloc[0]
    yield f"{len(each)} clusters of {len(table):,} cells; repeats on subsamples agree by {agreement:.2f} (1 is perfect)"
    yield from _first(
        f"  {number}: {int(n):,} cells, stability {stability:.2f}{_how_stable(stability)}"
        for number, (n, stability) in zip(each.index, each.to_numpy(), strict=True)
    )


def _how_stable(stability: float) -> str:
    return "" if stability > STABLE else " (not stable)" if stability < UNSTABLE else " (partly stable)"


def counterfactual_lines(result: AnnData) -> Iterator[str]:
    """Say how well training cells support the target, and which genes change most in each group."""
    named = [name for name in result.obs if re.fullmatch("(genevae_)*support", str(name))]  # the last is the newest
    if named and result.n_obs:
        support = result.obs[named[-1]]
        low = (support < SUPPORTED).mean()
        yield (
            f"Support of the target: median {support.median():.2f}, below {SUPPORTED} in {low:.1%} of the "
            f"{len(support):,} cells (near 1: training cells like them were seen there; near 0: none)"
        )
    shift = result.varm.get("shift")
    if shift is not None and shift.shape[1]:
        yield "Largest changes, in log-normalised expression:"
        by_size = shift.abs().max().sort_values(ascending=False, kind="stable").index
        yield from _first(f"  {name}: {_up_and_down(shift[name])}" for name in by_size)


def effect_lines(table: pd.DataFrame, change: float) -> Iterator[str]:
    """Say which genes change most, for each perturbation of each group of cells."""
    names = list(table.columns[: table.columns.get_loc("gene")])
    groups = [(" · ".join(map(str, key)), rows) for key, rows in table.groupby(names, sort=False, observed=True)]
    groups.sort(key=lambda each: -each[1]["lfc"].abs().max())
    yield f"{_counted(len(groups), 'effect')} of {' · '.join(names)}; log2 fold changes, the largest first:"
    for_all = (
        f"  {title}: {_up_and_down(rows.set_index('gene')['lfc'])}{_certain(rows, change)}; "
        f"support {rows['support'].iloc[0]:.2f}"
        for title, rows in groups
    )
    yield from _first(for_all)


def _certain(rows: pd.DataFrame, change: float) -> str:
    if rows["probability"].isna().all():
        return ""
    return f"; {_counted(int((rows['probability'] > 0.9).sum()), 'gene')} surely beyond ±{change:g}"


def influence_lines(table: pd.DataFrame) -> Iterator[str]:
    """Say how much the base and each field add, and the categories that add most."""
    whole = table[table["category"] == "all"]["influence"]
    yield "Influence on expression (1: as large as expression itself):"

    def of(field: str) -> str:
        each = table[(table.index == field) & (table["category"] != "all")]
        first = each.sort_values("influence", ascending=False).head(MOST_GENES)
        most = ", ".join(f"{row.category} {row.influence:.2f}" for row in first.itertuples())
        return f"  {field} {whole[field]:.2f}" + (f": most {most}" if most else "")

    yield from _first(of(str(field)) for field in whole.index)


def contribution_lines(table: pd.DataFrame) -> Iterator[str]:
    """Name the first genes of every category."""
    groups = table.groupby([table.index, "category"], sort=False)
    yield from _first(
        f"  {field} {category}: {', '.join(rows['gene'].head(2 * MOST_GENES))}" for (field, category), rows in groups
    )


def dose_lines(table: pd.DataFrame) -> Iterator[str]:
    """Name the genes that change most over the doses, with their EC50."""
    genes = table.groupby(level=0, sort=False)[["max_effect", "ec50"]].first()
    genes = genes.loc[genes["max_effect"].abs().sort_values(ascending=False, kind="stable").index]
    doses = table["dose"]
    yield (
        f"{_counted(len(genes), 'gene')} from dose {doses.min():g} to {doses.max():g}; "
        f"{int(genes['ec50'].notna().sum()):,} have an EC50. The largest changes of the mean:"
    )
    for gene, row in genes.head(MOST_LINES).iterrows():
        half = f", EC50 {row.ec50:.3g}" if row.ec50 == row.ec50 else ""
        yield f"  {gene} {'+' if row.max_effect > 0 else ''}{brief(row.max_effect)}{half}"


def genes_of(model: Trained) -> str:
    """Say how many genes the model has, and which they are."""
    n, config = len(model.schema.genes), _config_of(model)
    if "genes" not in config and "gene_filter" not in config:
        return f"all {n:,} genes"
    return f"the {n:,} most variable genes" if str(config.get("genes", "")).isdigit() else f"{n:,} chosen genes"


def progress_of(model: Trained) -> str:
    """Say that the validation loss was still falling when fewer epochs than the default ended."""
    from genevae.training.settings import default_epochs

    best, n = int(model.facts["best_epoch"]), len(model.history)
    training = model.recipe.training
    default = default_epochs(int((model.split == "training").sum()), training.typical_epochs)
    stopped = n < (training.epochs or default)
    if stopped or n >= default or best < n - max(1, n // 10):
        return ""
    return f"the loss was still falling, so train longer: the default for so many cells is --epochs {default}"


def _config_of(model: Trained) -> dict[str, Any]:
    return tomllib.loads(str(model.facts.get("config", "")))


def next_commands(model: Trained, run: Path) -> Iterator[str]:
    """Yield commands to type next, with the run and the data in them; none where the data were no file."""
    data, schema = _data_of(model), model.schema
    if not data:
        return

    def command(verb: str, name: str, *options: str) -> str:
        return shlex.join(["genevae", verb, str(run), *data, *options, "--out", f"{run.name}-{name}"])

    if str(model.facts["ended"]).startswith(STOPPED):
        again = shlex.join(["genevae", "fit", *data, "--from", str(run), "--out", f"{run.name}-continued"])
        yield f"{again}, with the same options"
    yield command("latent", "maps")
    for covariate in schema.categorical:
        others = [name for name in covariate.categories if name != covariate.control]
        if covariate.control is not None and others:
            doses = len(schema.continuous) == 1
            verb, name = ("dose-response", "doses.csv") if doses else ("counterfactual", "counterfactual.h5ad")
            yield command(verb, name, "--set", f"{covariate.name}={others[0]}")
            break
    yield command("evaluate", "report")


def _data_of(model: Trained) -> list[str]:
    """Return the data of a model as words of a command; nothing where they were no file."""
    config = _config_of(model)
    path = config.get("data")
    if not isinstance(path, str):
        return []
    kept = {each.name: config[each.name] for each in fields(ReadOptions) if each.name in config}
    kept = {**kept, "layer": None}  # a model remembers it
    return [path, *option_arguments(other_options(ReadOptions(path, **kept)))]


def option_arguments(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield options as the words of a command; those without a value are left out."""
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{'' if value else 'no-'}{option}"
        elif value:
            for each in value if isinstance(value, tuple) else (value,):
                yield from (f"--{option}", str(each))


def _up_and_down(change: pd.Series[Any]) -> str:
    """Name the genes that rise and that fall most."""
    order = change.sort_values(kind="stable")
    parts = {"up": order[order > 0].iloc[::-1], "down": order[order < 0]}
    named = [
        f"{word} {', '.join(f'{gene} {value:+.2f}' for gene, value in genes.head(MOST_GENES).items())}"
        for word, genes in parts.items()
        if len(genes)
    ]
    return "; ".join(named).replace(" -", " −") or "no gene changes"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _first(lines: Iterable[str]) -> Iterator[str]:
    """Yield the first lines, and say how many more there are in the file."""
    every = list(lines)
    yield from every[:MOST_LINES]
    if len(every) > MOST_LINES:
        yield f"  … and {len(every) - MOST_LINES} more in the file"
