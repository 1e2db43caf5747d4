"""Numbers for readers: at most three digits, or one after the point."""

from __future__ import annotations

import math

__all__ = ["brief", "significant"]


def brief(value: float | None) -> str:
    """Write a number for people.

    >>> [brief(value) for value in (0.98765, 3.14159, 42.195, -412.345, 12_345.6, 3.0, 2e-5, float("nan"))]
    ['0.988', '3.14', '42.2', '−412.3', '12,346', '3', '2e−05', '–']
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if value == int(value) or size >= 10_000:
        text = f"{value:,.0f}"
    elif size < 1e-3:
        text = f"{value:.2g}"
    else:
        text = f"{value:,.{3 if size < 1 else 2 if size < 10 else 1}f}"
    return text.replace("-", "−")


def significant(value: float | None, digits: int = 5) -> float | None:
    """Round to some significant digits, so that it takes little room as text; None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
