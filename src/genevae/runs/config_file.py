"""The settings of a fit as TOML: what `--config` reads and a run folder keeps."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genevae.errors import RecipeError

__all__ = ["read_config", "write_config"]


def write_config(settings: Mapping[str, Any]) -> str:
    """Write settings as TOML; those that are None are left out, and mappings become tables.

    Examples
    --------
    >>> print(write_config({"recipe": "nb", "seed": 0, "batch": None, "control": {"drug": "DMSO"}}), end="")
    recipe = "nb"
    seed = 0
    <BLANKLINE>
    [control]
    drug = "DMSO"
    """
    lines = [f"{name} = {_value(value)}" for name, value in settings.items() if not isinstance(value, Mapping | None)]
    for name, table in settings.items():
        if isinstance(table, Mapping) and table:
            lines += ["", f"[{name}]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def read_config(path: str | Path) -> dict[str, Any]:
    """Read settings.

    Raises
    ------
    RecipeError
        If there is no such file, or it is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"Cannot read the config file {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"The config file {path} is not TOML: {error}.") from error


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())}}}"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return _text(str(value))


def _text(text: str) -> str:
    """Quote a text as TOML does, which is as JSON does but for one control character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
