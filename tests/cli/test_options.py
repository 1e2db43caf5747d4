"""Texts of the command line become arguments, and help is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.cli import COMMANDS, main
from genevae.cli.options import assignments, names, numbers
from genevae.cli.spelling import respelled
from genevae.errors import CategoryError, DataError
from genevae.recipes.registry import RECIPES

NAMES = st.text(st.characters(exclude_characters="="), min_size=1)


@given(st.dictionaries(NAMES, st.text(), min_size=1))
def test_assignments_give_back_what_was_written(fields: dict[str, str]) -> None:
    assert assignments([f"{name}={value}" for name, value in fields.items()]) == fields


@given(NAMES, st.lists(st.text(), min_size=2))
def test_a_field_that_comes_often_keeps_every_value(name: str, values: list[str]) -> None:
    assert assignments([f"{name}={value}" for value in values]) == {name: values}


@pytest.mark.parametrize("word", ["cell_type", "=B", ""])
def test_a_word_without_a_field_is_refused(word: str) -> None:
    with pytest.raises(CategoryError, match="FIELD=VALUE"):
        assignments([word])


def test_names_come_in_several_options_or_with_commas() -> None:
    assert names(["a,b", "c"]) == ["a", "b", "c"]
    assert names(None) == []


def test_numbers_have_commas_between_them() -> None:
    assert numbers("0.5,1,10") == [0.5, 1.0, 10.0]
    with pytest.raises(DataError, match="numbers with commas"):
        numbers("a lot")


def test_listing_recipes_loads_no_pytorch() -> None:
    code = "import sys; from genevae.cli import main; main(['recipes']); print({'torch', 'anndata'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "set()"
    assert all(name in shown for name in RECIPES)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "data"])
def test_the_help_of_every_command_begins_with_its_line(command: str, capsys) -> None:
    main([command, "--help"])
    shown = capsys.readouterr().out
    assert " ".join(COMMANDS[command][1].split()[:3]) in shown
    assert shown.startswith(f"Usage: genevae {command}")
    assert "ARGS" not in shown.splitlines()[0]


def test_the_help_of_no_command_loads_a_heavy_package() -> None:
    """All commands but ``data``, whose subcommands stand in one file, in one process."""
    code = f"""
import sys
from genevae.cli import main

for command in {[name for name in COMMANDS if name != "data"]}:
    main([command, "--help"])
    heavy = {{"torch", "numba", "anndata", "scanpy", "sklearn", "matplotlib"}} & set(sys.modules)
    assert not heavy, (command, heavy)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_the_folder_of_a_run_may_come_after_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    (tmp_path / "cells.h5ad").touch()
    commands = {"embed", "evaluate"}
    for command in sorted(commands):
        assert respelled([command, "cells.h5ad", "run", "--out", "z.csv"], commands)[1:3] == ["run", "cells.h5ad"]
    for line in (["embed", "run", "cells.h5ad"], ["evaluate", "run", "run", "cells.h5ad"], ["embed", "none", "run"]):
        assert respelled(line, commands) == line


def test_arguments_that_are_too_many_say_which_options_take_several(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--split-by", "donor", "subset", "cells.h5ad"])
    message = capsys.readouterr().err
    assert "Too many arguments: cells.h5ad" in message
    assert "--condition a,b" in message
