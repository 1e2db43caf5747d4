"""What the tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    root = Path(os.environ.get("GENEVAE_DATA", Path(__file__).parents[1].parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"{name} is not in {root}: set GENEVAE_DATA to the folder of real data sets")
        return path

    return find
