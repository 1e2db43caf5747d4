"""Folders are written whole or not at all, and show when they were changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genevae.errors import RunError
from genevae.io.overwrite import require_free
from genevae.runs.manifest import MANIFEST, verify_folder, write_folder

FILES = {"a.txt": lambda path: path.write_text("alpha\n"), "b.bin": lambda path: path.write_bytes(bytes(range(100)))}
FACTS = {"seed": 0, "versions": {"genevae": "0.1"}, "data": "x.h5ad"}


@pytest.fixture
def folder(tmp_path) -> Path:
    write_folder(tmp_path / "run", FILES, FACTS)
    return tmp_path / "run"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_was_written_is_read_back(folder):
    facts = verify_folder(folder)
    assert facts.items() >= FACTS.items()
    assert (folder / "a.txt").read_text() == "alpha\n"
    assert set(facts["sha256"]) == set(FILES)
    assert {file.name for file in folder.iterdir()} == {*FILES, MANIFEST}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_one_changed_byte_is_caught_and_its_file_is_named(folder, name, share):
    flip(folder / name, int(share * (folder / name).stat().st_size))
    with pytest.raises(RunError, match=rf"{name} is not what was written"):
        verify_folder(folder)


def test_one_changed_byte_anywhere_in_the_manifest_is_caught(folder):
    good = (folder / MANIFEST).read_bytes()
    for place in range(len(good) - 1):  # the last is the line's end
        flip(folder / MANIFEST, place)
        with pytest.raises(RunError, match=str(folder)):
            verify_folder(folder)
        (folder / MANIFEST).write_bytes(good)
    assert verify_folder(folder)["seed"] == 0


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(RunError, match=name):
        verify_folder(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"sha256": 3}', "{", '{"sha256": {}}'])
def test_a_manifest_that_says_nothing_is_damaged(folder, content):
    (folder / MANIFEST).write_text(content)
    with pytest.raises(RunError, match="damaged"):
        verify_folder(folder)


def test_no_folder_and_no_model_folder_are_told_apart(tmp_path):
    with pytest.raises(RunError, match="There is no folder"):
        verify_folder(tmp_path / "nowhere")
    with pytest.raises(RunError, match="not a model folder"):
        verify_folder(tmp_path)


def test_a_folder_that_is_there_is_kept_unless_told_otherwise(folder):
    with pytest.raises(RunError, match="already exists"):
        write_folder(folder, {"c.txt": lambda path: path.write_text("new")}, {})
    assert (folder / "a.txt").exists()
    write_folder(folder, {"c.txt": lambda path: path.write_text("new")}, {}, overwrite=True)
    assert {file.name for file in folder.iterdir()} == {"c.txt", MANIFEST}
    verify_folder(folder)


@pytest.mark.parametrize("error", [ValueError("no"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_nothing_behind_and_the_old_folder_whole(folder, error):
    def fail(path: Path) -> None:
        path.write_text("half")
        raise error

    with pytest.raises(RunError if isinstance(error, OSError) else type(error)):
        write_folder(folder, {"new.txt": FILES["a.txt"], "bad.txt": fail}, {}, overwrite=True)
    assert [entry.name for entry in folder.parent.iterdir()] == ["run"]
    assert verify_folder(folder)["seed"] == 0


def test_a_full_disk_is_named(tmp_path):
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left on device"):
        write_folder(tmp_path / "run", {"a": fail}, {})
    assert not any(tmp_path.iterdir())


def test_a_place_under_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="Nothing can be written"):
        require_free(tmp_path / "file" / "run", overwrite=False, reads=(), marks=[MANIFEST])


def test_require_free_leaves_nothing_behind(tmp_path):
    require_free(tmp_path / "run", overwrite=False, reads=(), marks=[MANIFEST])
    assert not any(tmp_path.iterdir())


def test_the_manifest_is_json_that_people_can_read(folder):
    text = (folder / MANIFEST).read_text()
    assert json.loads(text)["data"] == "x.h5ad"
    assert text.count("\n") > len(FACTS)
