"""`genevae evaluate`."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

import genevae as gv
from genevae.cli.options import files_of, options_of, parameters, with_signature
from genevae.errors import RunError
from genevae.evaluation.evaluate import require_place, write_report

__all__ = ["evaluate"]

OPTIONS = options_of(gv.evaluate, {}, leave_out=["layer", "out", "overwrite", "progress"])


def _evaluate(*runs_and_data: str, out: Path, force: bool = False, **given: Any) -> None:
    *runs, data = runs_and_data or [""]
    if not runs:
        raise RunError("Give one run or more, and then the data: genevae evaluate RUN DATA --out DIR.")
    require_place(out, force)
    command = _command(runs_and_data, out, given)
    files = files_of(data, given)
    options = {name: OPTIONS[name][1](value) for name, value in given.items() if value is not None}
    options["sections"] = [name for given in options.get("sections", ()) for name in given.split(",")]
    report = replace(gv.evaluate(_named(runs), files, **options), command=command)
    write_report(report, out)
    Console(soft_wrap=True, highlight=False).print(
        f"{report}\nWrote {out}: open {out / 'report.html'} in any browser.", markup=False
    )


def _named(runs: Sequence[str]) -> dict[str, str]:
    """Name runs by their folders; by their whole paths where folders have one name."""
    names = [Path(run).resolve().name for run in runs]
    return {name if names.count(name) == 1 else run: run for name, run in zip(names, runs, strict=True)}


def _command(places: Sequence[str], out: Path, given: dict[str, Any]) -> str:
    """Return the command that repeats this."""
    parts = ["genevae", "evaluate", *places, "--out", str(out)]
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            parts.append(flag)
        elif value is not None and value is not False and value != []:
            parts += [flag, ",".join(value) if isinstance(value, list) else str(value)]
    return shlex.join(parts)


def _parameters() -> list[inspect.Parameter]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    places = Annotated[str, Parameter(help="One run folder or more, and then the data.")]
    out = Annotated[Path, Parameter(help="The folder to write: metrics.json, metrics.csv and report.html.")]
    force = Annotated[bool, Parameter(help="Replace what is there.")]
    return [
        inspect.Parameter("runs_and_data", inspect.Parameter.VAR_POSITIONAL, annotation=places),
        inspect.Parameter("out", keyword, annotation=out),
        inspect.Parameter("force", keyword, annotation=force, default=False),
        *(parameter for parameter, _ in OPTIONS.values()),
        *parameters(),
    ]


evaluate = with_signature(_evaluate, gv.evaluate, _parameters())
