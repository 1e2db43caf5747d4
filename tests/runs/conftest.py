"""A small run in a folder, to be opened, edited and damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import genevae as gv


@pytest.fixture(scope="module")
def saved(tiny_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "run"
    gv.save(tiny_model, path)
    return path


@pytest.fixture
def run(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))
