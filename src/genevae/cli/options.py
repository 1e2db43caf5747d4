"""Python signatures as command lines: which types the options have, and how their words become arguments."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import docstring_parser
from cyclopts import Parameter

from genevae.errors import CategoryError, DataError
from genevae.io.read_options import ReadOptions

__all__ = ["READING", "assignments", "files_of", "option", "options_of", "parameters", "with_signature"]


def assignments(words: Sequence[str]) -> dict[str, str | list[str]]:
    """Turn FIELD=VALUE words into a mapping; a field that comes twice gets a list.

    >>> assignments(["cell_type=CD4 T", "drug=A", "drug=B"])
    {'cell_type': 'CD4 T', 'drug': ['A', 'B']}

    Raises
    ------
    CategoryError
        If a word has no ``=``.
    """
    values: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise CategoryError(f"'{word}' does not say what to set: write FIELD=VALUE, such as cell_type=\"CD4 T\".")
        values.setdefault(name, []).append(value)
    return {name: each if len(each) > 1 else each[0] for name, each in values.items()}


def option(hint: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the type that a Python parameter has on the command line, and what turns its words into the argument.

    A mapping is FIELD=VALUE words; names are words; widths are one word, as in 512,256, and so are numbers, as in
    0.5,1; where text is allowed, text.
    """
    kinds = [kind for kind in _alternatives(hint) if kind is not type(None)]
    origins = {typing.get_origin(kind) or kind: kind for kind in kinds}
    if Mapping in origins:
        return list[str], assignments
    if str in origins or Path in origins:
        return str, lambda word: word
    if Sequence in origins and typing.get_args(origins[Sequence]) == (str,):
        return list[str], lambda words: words
    if Sequence in origins and typing.get_args(origins[Sequence]) == (float,):
        return str, _numbers
    if Sequence in origins:
        return str, lambda word: word
    return hint, lambda value: value


def _numbers(word: str) -> list[float]:
    try:
        return [float(number) for number in word.split(",")]
    except ValueError:
        raise DataError(f"'{word}' should be numbers with commas between them, such as 0.5,1,10.") from None


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in {types.UnionType, typing.Union} else (hint,)


def options_of(
    function: Callable[..., Any], rename: Mapping[str, str], leave_out: Sequence[str] = (), group: str | None = None
) -> dict[str, tuple[inspect.Parameter, Callable[[Any], Any]]]:
    """Return the options that the keyword parameters of a function become.

    Parameters
    ----------
    function
        Its keyword-only parameters are taken.
    rename
        Names that differ on the command line.
    leave_out
        Parameters that are no options.
    group
        The title under which the help lists them.
    """
    options = {}
    helps = {each.arg_name: each.description for each in docstring_parser.parse(inspect.getdoc(function) or "").params}
    for name, parameter in inspect.signature(function, eval_str=True, locals=_NAMES).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or name in leave_out:
            continue
        kind, convert = option(parameter.annotation)
        default = parameter.default if parameter.default not in ((), None) else None
        required = parameter.default is inspect.Parameter.empty
        hint = kind if required or default is not None else kind | None
        shown = Parameter(name=rename.get(name), help=helps.get(name))
        if group:
            shown = Parameter.combine(shown, Parameter(group=group))
        options[name] = (
            parameter.replace(
                annotation=Annotated[hint, shown], default=inspect.Parameter.empty if required else default
            ),
            convert,
        )
    return options


def with_signature(
    command: Callable[..., Any], like: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> Callable[..., Any]:
    """Give a command the name and docstring of a function, and a signature of its own."""
    command.__name__ = like.__name__
    command.__doc__ = like.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


_NAMES = {"AnnData": object, "Block": object, "ReadOptions": object, "Source": object}
"""Names that the tasks import for type checkers only."""


READING = options_of(ReadOptions, {}, leave_out=["path"], group="How the data are read")


def parameters() -> list[inspect.Parameter]:
    """Return the options."""
    return [parameter for parameter, _ in READING.values()]


def files_of(data: str, given: dict[str, Any]) -> ReadOptions:
    """Take the reading options out of what was given, and join them with the path."""
    words = {name: given.pop(name) for name in READING if name in given}
    return ReadOptions(path=data, **{name: word for name, word in words.items() if word is not None})
