"""`genevae evaluate`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from genevae.cli.endings import option_arguments
from genevae.cli.options import DataIfAny, Force, OptionalData, names, other_options, say
from genevae.errors import RunError

__all__ = ["evaluate"]

SectionExecutor = Annotated[
    str | None,
    Parameter(help="Where sections are computed: processes:N, dask:ADDRESS or submitit:PARTITION; here by default."),
]


def evaluate(
    *runs_and_data: Annotated[str, Parameter(help="One run folder or more, and then the data.")],
    out: Path | None = None,
    force: Force = False,
    sections: Annotated[Sequence[str] | None, Parameter(name=("--sections", "--questions"))] = None,
    gene_sets: Path | None = None,
    cells: int = 5000,
    seed: int = 0,
    executor: SectionExecutor = None,
    reading: OptionalData = DataIfAny(),  # noqa: B008 - it is frozen
) -> None:
    """Evaluate trained models on data, every score beside its baselines.

    Parameters
    ----------
    out
        The folder to write: metrics.json, metrics.csv and report.html; or a page alone, a name that ends in .html. By
        default the scores are printed alone.
    sections
        Which of fit, latent, response, simulation and labels; all that the data allow by default.
    gene_sets
        A GMT file of gene sets that similar genes are compared with.
    cells
        Evaluation cells, sampled where there are more, and as many training cells for the baselines.
    seed
        Of all random choices.
    """
    import genevae as gv
    from genevae.evaluation.evaluate import require_place, write_report

    *runs, data = [*runs_and_data, *([str(reading.path)] if reading.path else [])] or [""]
    if not runs:
        raise RunError("Give one run or more, and then the data: genevae evaluate RUN DATA --out DIR.")
    if out is not None:
        require_place(out, force, (runs, replace(reading, path=data), gene_sets))
    report = gv.evaluate(
        _named(runs), replace(reading, path=data), sections=names(sections), gene_sets=gene_sets, cells=cells,
        seed=seed, executor=executor,
    )  # fmt: skip
    if out is None:
        say(f"{report}\nFor the report with pictures, give a folder: --out DIR.")
        return
    options = {**other_options(reading), "sections": ",".join(names(sections)), "gene_sets": gene_sets,
               "cells": cells, "seed": seed}  # fmt: skip
    report = replace(report, command=_command([*runs, data], out, options))
    write_report(report, out)
    page = out if out.suffix == ".html" else out / "report.html"
    say(f"{report!r}\nWrote {out}: open {page} in any browser.")


def _command(runs_and_data: Sequence[str], out: Path, options: Mapping[str, Any]) -> str:
    """Return the command that repeats an evaluation."""
    return shlex.join(["genevae", "evaluate", *runs_and_data, "--out", str(out), *option_arguments(options)])


def _named(runs: Sequence[str]) -> dict[str, str]:
    """Name runs by their folders; by their paths where two folders have one name."""
    folders = [Path(run).resolve().name for run in runs]
    return {name if folders.count(name) == 1 else run: run for name, run in zip(folders, runs, strict=True)}
