"""Options that several commands share, and how their text becomes arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args  # noqa: F401 - cyclopts resolves the annotations of ReadOptions here

from cyclopts import App, Parameter, Token
from cyclopts.argument import ArgumentCollection

from genevae.errors import CategoryError, DataError, RecipeError, RunError, nearest
from genevae.io.read_options import ReadOptions
from genevae.peers import peer_option

__all__ = [
    "Data",
    "DataIfAny",
    "Executor",
    "FieldValues",
    "Force",
    "Into",
    "OptionalData",
    "Out",
    "OutOrInto",
    "Run",
    "Table",
    "assignments",
    "from_config",
    "names",
    "numbers",
    "other_options",
    "require_integers",
    "say",
    "target",
    "written",
]

Run = Annotated[Path, Parameter(help="A folder that fit wrote, or a checkpoint in it.")]
Data = Annotated[ReadOptions, Parameter(name="*", group="How the data are read", negative=None)]


@dataclass(frozen=True)
class DataIfAny(ReadOptions):
    """The same for a command that may go without data, or takes their path elsewhere; the path is then empty."""

    path: str | Path = ""


OptionalData = Annotated[DataIfAny, Parameter(name="*", group="How the data are read", negative=None)]


def other_options(data: ReadOptions) -> dict[str, Any]:
    """Return the options other than the path that were given, by name."""
    given = {each.name: getattr(data, each.name) for each in fields(data) if each.name != "path"}
    return {name: value for name, value in given.items() if value != getattr(DataIfAny(), name)}


Out = Annotated[
    Path,
    Parameter(help="The file to write: .h5ad, .zarr, .csv, .tsv, .parquet, .npy, .h5 (a batch file) or .mtx (10x)."),
]
OutOrInto = Annotated[
    Path | None,
    Parameter(help="The file to write: .h5ad, .zarr, .csv, .tsv, .parquet, .npy, .h5 (a batch file) or .mtx (10x)."),
]
Into = Annotated[Path | None, Parameter(help="Instead of --out, an .h5ad file of the same cells to add the result to.")]
Table = Annotated[Path, Parameter(help="The table to write: .csv, .tsv, .parquet or .json.")]
_OF_THE_COMMAND_LINE = ("--config", "--out", "--force", "--log", "--resume")
"""Options that a config file cannot set."""
Force = Annotated[bool, Parameter(help="Replace what is there.")]
Executor = Annotated[
    str | None,
    Parameter(help="Where the cells are computed: processes:N, dask:ADDRESS or submitit:PARTITION; here by default."),
]
FieldValues = Sequence[str]
"""FIELD=VALUE, once or several times; :func:`assignments` reads them."""


def assignments(texts: Sequence[str] | None) -> dict[str, Any]:
    """Turn FIELD=VALUE texts into a mapping; a field that occurs twice gets a list.

    >>> assignments(["cell_type=CD4 T", "drug=A", "drug=B"])
    {'cell_type': 'CD4 T', 'drug': ['A', 'B']}

    Raises
    ------
    CategoryError
        If a text has no ``=``.
    """
    values: dict[str, list[str]] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CategoryError(f"'{text}' does not say what to set: write FIELD=VALUE, such as cell_type=\"CD4 T\".")
        values.setdefault(name, []).append(value)
    return {name: each if len(each) > 1 else each[0] for name, each in values.items()}


def target(texts: Sequence[str] | None) -> Any:
    """Return FIELD=VALUE texts as a mapping, and a single value as it is: it may be of the only field that has it."""
    if texts and len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    return assignments(texts)


def numbers(text: str | None) -> list[float]:
    """Read numbers with commas between them.

    Raises
    ------
    DataError
        If one of them is not a number.
    """
    try:
        return [float(number) for number in text.split(",")] if text else []
    except ValueError:
        raise DataError(f"'{text}' should be numbers with commas between them, such as 0.5,1,10.") from None


def names(texts: Sequence[str] | None) -> list[str]:
    """Read names that are given in several options, or in one with commas."""
    return [name.strip() for text in texts or () for name in text.split(",") if name.strip()]


def written(out: Path | None, into: Path | None) -> Path:
    """Return where a result goes.

    Raises
    ------
    RunError
        If neither is given.
    """
    found = into or out
    if found is None:
        raise RunError("Say where the result goes: a file of its own (--out), or a file of the same cells (--into).")
    return found


def say(*texts: Any, end: str = "\n") -> None:
    """Print lines to the terminal; names are never read as markup, nor as codes of emoji."""
    from rich.console import Console

    Console(soft_wrap=True, highlight=False, emoji=False, markup=False).print(*texts, sep="\n", end=end)


def from_config(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:  # noqa: ARG001 - cyclopts' own signature
    """Take options that are not given from the file of ``--config``, as cyclopts takes them from a configuration.

    Raises
    ------
    RecipeError
        If the file cannot be read, or sets an option that does not exist.
    """
    found = {name: argument for argument in arguments for name in argument.names}
    config = found.get("--config")
    if config is None or not config.tokens:
        return
    from genevae.recipes.registry import current_settings
    from genevae.runs.config_file import read_config

    path = config.tokens[0].value
    for name in _OF_THE_COMMAND_LINE:
        found.pop(name, None)
    options = read_config(path)
    if "setting" in options:
        kept = current_settings(options.get("recipe", "nb"), options["setting"])
        options["setting"] = {name: value for name, value in kept.items() if not _is_given(found, name)}
    for name, value in options.items():
        keyword = f"--{name.replace('_', '-')}"
        if keyword not in found:
            known = [option[2:].replace("-", "_") for option in found if option.startswith("--") and "." not in option]
            reason = peer_option(name) or f"There is no option '{name}'. {nearest(name, known)}"
            raise RecipeError(f"The config file {path}: {reason}")
        if not found[keyword].tokens:
            is_whole = name in {"genes", "gene_sets", "embedding"} and isinstance(value, list | dict)
            texts = [json.dumps(value)] if is_whole else _texts(value)
            for at, text in enumerate(texts):
                found[keyword].append(Token(keyword=keyword, value=text, source=path, index=at))


def require_integers(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:  # noqa: ARG001
    """Raise where 5.5 is given for a whole number, which cyclopts would round.

    Raises
    ------
    RecipeError
        If a number is not whole.
    """
    for argument in arguments:
        if int in (argument.hint, *get_args(argument.hint)):
            for token in argument.tokens:
                if _is_fraction(token.value):
                    raise RecipeError(f"{token.keyword or argument.name} must be a whole number, not {token.value}.")


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except ValueError:  # which cyclopts explains
        return False


def _is_given(found: Mapping[str, Any], name: str) -> bool:
    """Whether a setting that has an option of its own was given by it."""
    argument = found.get(f"--{name.replace('_', '-')}")
    return argument is not None and bool(argument.tokens)


def _texts(value: Any) -> Iterator[str]:
    """Yield a value of a config file as the texts of a command line."""
    if isinstance(value, Mapping):
        yield from (f"{name}={text}" for name, each in value.items() for text in list(_texts(each)) or [""])
    elif isinstance(value, list):
        yield from map(str, value)
    else:
        yield str(value).lower() if isinstance(value, bool) else str(value)
