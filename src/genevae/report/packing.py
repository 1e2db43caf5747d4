"""Charts as JSON for the browser, with long arrays as base64, each of them once."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from genevae.report.numbers import significant
from genevae.report.records import Bars, Chart, Heat, Lines, Map, Points

__all__ = ["Packer", "embedded", "policy_hash"]

MISSING = 65_535
"""The code of a value that is not there; coordinates and numbers take the codes from 0 to 65,534."""
MISSING_BYTE = 255
MAX_CATEGORIES = 200
"""Of a field with more categories, the commonest keep their names, and the others are "other"."""


class Packer:
    """Turns charts into JSON, and collects their arrays.

    Coordinates and numbers of cells are kept to 1/65,534 of their range, which is finer than a screen.
    """

    def __init__(self) -> None:
        self.arrays: list[dict[str, str]] = []
        self._places: dict[str, int] = {}

    def pack(self, chart: Chart) -> dict[str, Any]:
        """Return a chart as JSON; its arrays are added to ``arrays``."""
        packers: dict[type, Any] = {
            Lines: self._lines, Points: self._points, Map: self._map, Bars: self._bars, Heat: self._heat,
        }  # fmt: skip
        content = packers[type(chart)](chart)
        return {"type": type(chart).__name__.lower(), "title": chart.title, "caption": chart.caption, **content}

    def _lines(self, chart: Lines) -> dict[str, Any]:
        return {
            "x_label": chart.x_label,
            "y_label": chart.y_label,
            "series": [{"name": name, "x": _list(x_n), "y": _list(y_n)} for name, (x_n, y_n) in chart.series.items()],
            "marks": [{"name": name, "x": significant(at)} for name, at in chart.marks.items()],
            "diagonal": chart.diagonal,
            "y_range": None if chart.y_range is None else _list(chart.y_range),
        }

    def _points(self, chart: Points) -> dict[str, Any]:
        return {
            "x_label": chart.x_label,
            "y_label": chart.y_label,
            "x": self.array(np.asarray(chart.x, dtype="<f4")),
            "y": self.array(np.asarray(chart.y, dtype="<f4")),
            "names": list(map(str, chart.names)),
            "highlighted": list(map(str, chart.highlighted)),
            "diagonal": chart.diagonal,
        }

    def _map(self, chart: Map) -> dict[str, Any]:
        spaces = [
            {"name": name, "x": self.coded(xy[:, 0])["values"], "y": self.coded(xy[:, 1])["values"]}
            for name, xy in chart.spaces.items()
        ]
        fields = [{"name": name, **self._field(np.asarray(values))} for name, values in chart.fields.items()]
        return {"n": len(next(iter(chart.spaces.values()), ())), "spaces": spaces, "fields": fields}

    def _bars(self, chart: Bars) -> dict[str, Any]:
        return {
            "x_label": chart.x_label,
            "names": list(map(str, chart.names)),
            "series": [
                {
                    "name": name,
                    "values": _list(values),
                    **({} if name not in chart.intervals else _ends(*chart.intervals[name])),
                }
                for name, values in chart.series.items()
            ],
        }

    def _heat(self, chart: Heat) -> dict[str, Any]:
        return {
            "rows": list(map(str, chart.rows)),
            "columns": list(map(str, chart.columns)),
            "row_label": chart.row_label,
            "column_label": chart.column_label,
            "values": self.array(np.asarray(chart.values, dtype="<f4").ravel()),
            "diverging": chart.diverging,
        }

    def _field(self, values: NDArray[Any]) -> dict[str, Any]:
        """Pack one value per cell: numbers as their place in their range, anything else as the code of its text."""
        if np.issubdtype(values.dtype, np.number):
            return {"kind": "number", **self.coded(values)}
        texts = pd.Series(values, dtype=object)
        texts = texts.where(texts.notna(), None).map(lambda text: None if text is None else str(text))
        counts = texts.value_counts()
        if len(counts) > MAX_CATEGORIES:
            kept = set(counts.index[: MAX_CATEGORIES - 1])
            texts = texts.map(lambda text: text if text is None or text in kept else "other")
        names = sorted(set(texts.dropna()), key=_in_order)
        code_n = texts.map({name: code for code, name in enumerate(names)}).fillna(MISSING_BYTE)
        return {"kind": "category", "names": names, "codes": self.array(code_n.to_numpy(dtype=np.uint8))}

    def coded(self, values: ArrayLike) -> dict[str, Any]:
        """Pack numbers as 16 bits each, with the ends of their range."""
        numbers = np.asarray(values, dtype=np.float64)
        known = np.isfinite(numbers)
        low, high = (numbers[known].min(), numbers[known].max()) if known.any() else (0.0, 1.0)
        step = (high - low) / (MISSING - 1) or 1.0
        code_n = np.full(len(numbers), MISSING, dtype="<u2")
        code_n[known] = np.rint((numbers[known] - low) / step)
        return {"values": self.array(code_n), "low": significant(float(low)), "high": significant(float(high))}

    def array(self, values: NDArray[Any]) -> int:
        """Keep an array, once, and return its place."""
        content = np.ascontiguousarray(values).tobytes()
        kind = values.dtype.str[1:]
        key = hashlib.sha256(kind.encode() + content).hexdigest()
        if key not in self._places:
            self._places[key] = len(self.arrays)
            self.arrays.append({"kind": kind, "content": base64.b64encode(content).decode("ascii")})
        return self._places[key]


def embedded(content: object) -> str:
    """Return JSON that can stand inside a script element: no tag or comment can begin in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def policy_hash(text: str) -> str:
    """Return what the security policy of a page calls this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _list(values: Sequence[float]) -> list[float | None]:
    return [significant(float(value)) for value in values]


def _ends(low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    return {"low": _list(low), "high": _list(high)}


def _in_order(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else -1, name)
