"""Functions for workers that die; light, since every process that starts imports them."""

import os
from pathlib import Path


def dies(number: int) -> int:
    os._exit(9)


def dies_once(folder: Path, number: int) -> int:
    if number == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(9)
    return number
