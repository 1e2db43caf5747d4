"""A task as a command: RUN in place of the model, paths in place of data and result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from genevae.cli.output import Output
from genevae.cli.words import options_of, with_signature

__all__ = ["task_command"]

RENAMED = {"condition": "--set"}


def task_command(task: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command of a task.

    Parameters
    ----------
    task
        A function of a model, perhaps of data, and of keyword-only options, that returns an AnnData or a DataFrame.
    """
    takes_data = "data" in inspect.signature(task).parameters
    options = options_of(task, RENAMED)

    def command(run: Path, data: str | None = None, *, out: Path, force: bool = False, **given: Any) -> None:
        from genevae.recipes.trained import load

        output = Output(out, task, force)
        arguments = {name: options[name][1](value) for name, value in given.items()}
        model = load(run)
        output.write(task(model, data, **arguments) if takes_data else task(model, **arguments))

    return with_signature(command, task, [*_paths(takes_data), *(parameter for parameter, _ in options.values())])


def _paths(takes_data: bool) -> list[inspect.Parameter]:
    """Return the parameters that every task has."""
    positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    run = inspect.Parameter("run", positional, annotation=Annotated[Path, Parameter(help="A folder that fit wrote.")])
    data = inspect.Parameter("data", positional, annotation=str)
    out = Annotated[Path, Parameter(help="The file to write: .h5ad or .zarr for cells, .csv or .tsv for tables.")]
    force = Annotated[bool, Parameter(help="Replace what is there.")]
    return [
        run,
        *([data] if takes_data else []),
        inspect.Parameter("out", keyword, annotation=out),
        inspect.Parameter("force", keyword, annotation=force, default=False),
    ]
