"""Options that several commands share, and how their text becomes arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter, Token
from cyclopts.argument import ArgumentCollection

from genevae.errors import CategoryError, DataError, RecipeError, nearest
from genevae.io.read_options import ReadOptions
from genevae.runs.peer_options import peer_option

__all__ = [
    "Data",
    "FieldValues",
    "Force",
    "Out",
    "Run",
    "Table",
    "assignments",
    "from_config",
    "names",
    "numbers",
    "say",
]

Run = Annotated[Path, Parameter(help="A folder that fit wrote.")]
Data = Annotated[ReadOptions, Parameter(name="*", group="How the data are read", negative=None)]
Out = Annotated[
    Path, Parameter(help="The file to write: .h5ad, .zarr, .csv, .tsv, .npy, .h5 (a batch file) or .mtx (10x).")
]
Table = Annotated[Path, Parameter(help="The table to write: .csv, .tsv or .json.")]
Force = Annotated[bool, Parameter(help="Replace what is there.")]
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
    return [name for text in texts or () for name in text.split(",") if name]


def say(*texts: Any) -> None:
    """Print lines to the terminal; names are never read as markup."""
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(*texts, sep="\n", markup=False)


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
    from genevae.runs.config_file import read_config

    path = config.tokens[0].value
    for name, value in read_config(path).items():
        keyword = "--path" if name == "data" else f"--{name.replace('_', '-')}"
        if keyword not in found or keyword == "--config":
            known = [option[2:].replace("-", "_") for option in found if option.startswith("--") and "." not in option]
            reason = peer_option(name) or f"There is no option '{name}'. {nearest(name, known)}"
            raise RecipeError(f"The config file {path}: {reason}")
        if not found[keyword].tokens:
            for at, text in enumerate(_texts(value)):
                found[keyword].append(Token(keyword=keyword, value=text, source=path, index=at))


def _texts(value: Any) -> Iterator[str]:
    """Yield a value of a config file as the texts of a command line."""
    if isinstance(value, Mapping):
        yield from (f"{name}={','.join(_texts(each))}" for name, each in value.items())
    elif isinstance(value, list):
        yield from map(str, value)
    else:
        yield str(value).lower() if isinstance(value, bool) else str(value)
