"""Commands, options and settings that the pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from genevae.cli import COMMANDS, app
from genevae.recipes.describe import settings_of
from genevae.recipes.registry import RECIPES

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/**/*.md")))]


def code(page: str) -> list[str]:
    """Return the code spans of a page, and the lines of its blocks, with continued lines joined."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```.*?```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*spans, *(line for block in blocks for line in block.splitlines())]


def options_of(words: list[str]) -> set[str]:
    """Return the options of the command that these words call."""
    command, _, _ = app.parse_commands(words)
    assert command, f"there is no command in {words}"
    found = app[command[0]] if len(command) == 1 else app[command[0]][command[1]]
    arguments = found.assemble_argument_collection(parse_docstring=False)
    return {name for argument in arguments for name in argument.names}


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_of_a_page_exist(page: str) -> None:
    for line in code(page):
        call = re.match(r"(?:\$ )?genevae ([a-z].*)", line.strip())
        if not call:
            continue
        words = call[1].split("#")[0].split()
        assert words[0].strip(",.") in COMMANDS, line
        if words[0] == "slurm":
            continue  # its options and those of the command that it writes stand in one line
        known = options_of(words)
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= known | {"--help"}, f"{page}: {line}: {sorted(given - known)}"


@pytest.fixture(scope="module")
def any_option() -> set[str]:
    """Return the options of all commands."""
    of_data = [["data", name] for name in app["data"] if not name.startswith("-")]
    calls = [*of_data, *([name] for name in COMMANDS if name not in {"data", "recipes", "slurm"})]
    return {"--setup", "--partition", "--each", "--submit", "--help", "--version"}.union(*map(options_of, calls))


@pytest.mark.parametrize("page", PAGES)
def test_options_of_a_page_exist(page: str, any_option: set[str]) -> None:
    given = {word.split("=")[0] for line in code(page) if line.startswith("--") for word in line.split()}
    unknown = {word for word in given if word.startswith("--")} - any_option - {"--"}
    assert not unknown, f"{page}: {sorted(unknown)}"


@pytest.mark.parametrize("page", PAGES)
def test_settings_of_a_page_exist(page: str) -> None:
    known = {setting.name for recipe in RECIPES.values() for setting in settings_of(recipe)}
    given = {name for line in code(page) for name in re.findall(r"--setting ([a-z_0-9]+)=", line)}
    assert given <= known, sorted(given - known)
