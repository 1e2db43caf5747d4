"""A task as a command: RUN in place of the model, paths in place of data and result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich import print as say

from genevae.cli.options import files_of, options_of, parameters, with_signature
from genevae.cli.table_output import require_table, write_table
from genevae.tasks.output import require_writable

__all__ = ["paths", "task_command"]

RENAMED = {"condition": "--set"}


def task_command(task: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command of a task.

    Parameters
    ----------
    task
        A function of a model, perhaps of data, and of keyword-only options, that returns an AnnData or a DataFrame.
    """
    takes_data = "data" in inspect.signature(task).parameters
    gives_cells = "out" in inspect.signature(task).parameters
    options = options_of(task, RENAMED, leave_out=["layer", "out", "overwrite"])

    def command(run: Path, data: str | None = None, *, out: Path, force: bool = False, **given: Any) -> None:
        from genevae.runs.trained import load

        (require_writable if gives_cells else require_table)(out, force)
        where = [] if data is None else [files_of(data, given)]
        arguments = {name: options[name][1](value) for name, value in given.items()}
        if gives_cells:
            task(load(run), *where, **arguments, out=out, overwrite=force)
        else:
            table = task(load(run), *where, **arguments)
            write_table(table, out, table.index.name or "cell")
        say(f"Wrote {out}")

    own = [parameter for parameter, _ in options.values()]
    return with_signature(command, task, [*paths(takes_data), *own, *(parameters() if takes_data else [])])


def paths(takes_data: bool) -> list[inspect.Parameter]:
    """Return the parameters that every task has."""
    positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    run = inspect.Parameter("run", positional, annotation=Annotated[Path, Parameter(help="A folder that fit wrote.")])
    data = inspect.Parameter("data", positional, annotation=str)
    suffixes = ".h5ad, .zarr, .npy, .h5 (a batch file) or .mtx (10x) for cells, .csv, .tsv or .json for tables"
    out = Annotated[Path, Parameter(help=f"What to write: a file, {suffixes}.")]
    force = Annotated[bool, Parameter(help="Replace what is there.")]
    return [
        run,
        *([data] if takes_data else []),
        inspect.Parameter("out", keyword, annotation=out),
        inspect.Parameter("force", keyword, annotation=force, default=False),
    ]
