"""Command lines as people type them: names of other packages, short options, and several names after one option."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from genevae.peers import ALIASES, RENAMED, our_option

__all__ = ["respelled", "with_our_options"]

SHORT = {"-o": "--out", "-i": "--data", "-n": "--n"}
LISTS = frozenset(
    {"--condition", "--continuous", "--combine", "--context", "--by", "--to", "--covariates", "--conditions"}
)
"""Options that take several names."""
OPTIONS = {"effect": {"--condition": "--to"}, "counterfactual": {"--to": "--set"}}
"""Options of a command that are called otherwise in a command like it."""
WITHOUT_RUN = frozenset({"data", "demo", "fit", "inspect", "recipes", "sweep", "tune", "evaluate"})
"""Commands that take no run, or several; all others take it as --run, which people call --model."""
SUFFIXES = (".h5ad", ".h5", ".zarr", ".csv", ".tsv", ".txt", ".gz", ".npz", ".npy", ".mtx", ".loom", ".parquet")
"""Of files, which are no names."""


def respelled(given: Sequence[str], commands: Collection[str]) -> list[str]:
    """Return a command line with our command, long options, and one option for each name.

    >>> respelled(["fit", "--condition", "a", "b", "-o", "run"], {"fit"})
    ['fit', '--condition', 'a', '--condition', 'b', '--out', 'run']
    """
    line = list(given)
    if line[:1] == ["help"]:
        line = [*line[1:], "--help"]
    if line and line[0] not in commands and (ours := ALIASES.get(line[0], "").replace("_", "-")) in commands:
        _note(f"the command {line[0]} is {ours} here.")
        line[0] = ours
    if line and line[0] not in commands and (ours := _command_for(line)):
        _note(f"the command {line[0]} is {ours} here.")
        line[0] = ours
    if line[:1] == ["inspect"] and any(map(_is_run, line[1:2])):
        line[0] = "show"
    if line and line[0] == "slurm":  # the rest is another command, which is respelled when it runs
        return line
    others = {**SHORT, **OPTIONS.get(line[0] if line else "", {})}
    if line and line[0] in set(commands) - WITHOUT_RUN:
        others["--model"] = "--run"
    return list(_spread([others.get(each, each) for each in _run_first(line)]))


def _command_for(line: Sequence[str]) -> str:
    """Return our command for one that is another, depending on its options; an empty text if there is none."""
    if line[0] == "predict":
        is_set = {"--condition", "--set", "--to"} & {each.split("=")[0] for each in line}
        return "counterfactual" if is_set else "classify"
    return "--help" if line in (["commands"], ["list"]) else ""


def _run_first(line: list[str]) -> list[str]:
    """Put the folder of a run before the data, where a command line has the data first."""
    if len(line) < 3 or any(each.startswith("-") for each in line[1:3]) or line[0] == "data":
        return line
    first, second = (Path(each, "manifest.json").is_file() for each in line[1:3])
    if first or not second or not Path(line[1]).exists():
        return line
    _note(f"the folder of the run comes first: {line[0]} {line[2]} {line[1]}.")
    return [line[0], line[2], line[1], *line[3:]]


def _spread(line: Sequence[str]) -> Iterator[str]:
    """Repeat an option before each further name that follows it."""
    option, n_after = "", 0
    lists = LISTS | {"--batch"} if line[:1] == ["fit"] else LISTS
    for each in line:
        if each.startswith("-"):
            option, n_after = each, 0
        elif option in lists:
            n_after += 1
            if n_after > 1 and (os.path.exists(each) or each.lower().endswith(SUFFIXES)):  # noqa: PTH110 - a text of the user
                option = ""
            elif n_after > 1:
                yield option
        yield each


def _is_run(name: str) -> bool:
    try:
        return Path(name, "manifest.json").is_file()
    except (OSError, ValueError):  # too long for a name of a file, or not one at all
        return False


def with_our_options(given: Sequence[str], known: Collection[str]) -> list[str] | None:
    """Return a command line with the options of other packages under our names; None if that changes nothing.

    Parameters
    ----------
    given
        The command line.
    known
        The options of the command.
    """
    line, changed, rest = [], False, iter(given)
    for each in rest:
        typed, equals, value = each.partition("=")
        option, setting = _ours(typed, known)
        if option is None:
            line.append(each)
            continue
        changed = True
        _note(f"the option {typed} is {option}{f' {setting}=VALUE' if setting else ''} here.")
        text = value if equals else next(rest, "")
        line += [option, f"{setting}={text}" if setting else text]
    return line if changed else None


def _ours(typed: str, known: Collection[str]) -> tuple[str | None, str]:
    """Return our option for one of another package, and the setting that it is, if any."""
    plain = typed.removeprefix("--").replace("-", "_")
    if not typed.startswith("--") or typed in known or plain not in RENAMED:
        return None, ""
    name, _, setting = our_option(plain, {each.removeprefix("--").replace("-", "_") for each in known}).partition(".")
    option = f"--{name.replace('_', '-')}"
    return (option, setting) if option in known else (None, "")


def _note(text: str) -> None:
    print(f"genevae: {text}", file=sys.stderr)  # noqa: T201 - a command prints
