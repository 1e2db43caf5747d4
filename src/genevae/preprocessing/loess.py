"""Local quadratic regression of one variable on another, as Cleveland's ``loess`` computes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["loess"]

_CELL = 0.2
"""A cell with more than this share of a neighbourhood's points is split in two (Cleveland's default)."""

_Floats = NDArray[np.float64]


def loess(x_n: _Floats, y_n: _Floats, span: float = 0.3) -> _Floats:
    """Smooth ``y`` along ``x``: at each x, the value of a parabola fitted to the nearest points.

    The parabola minimises ``Σ w·(y − a − b·(x − x₀) − c·(x − x₀)²)²`` over the nearest ``span·n`` points, with tricube
    weights ``w = (1 − (|x − x₀| / h)³)³`` where ``h`` is the distance of the farthest. It is fitted at the corners of
    cells with few points each, and interpolated between them by the cubic with the values and slopes of both corners:
    about thirty fits for any number of points.

    Parameters
    ----------
    x_n, y_n
        The points, in any order.
    span
        Share of the points in each neighbourhood.

    Returns
    -------
    fitted_n
        The smoothed value at each ``x_n``.

    References
    ----------
    W. S. Cleveland and E. Grosse (1991), Computational methods for local regression, Statistics and Computing 1:47.

    Examples
    --------
    >>> x = np.linspace(0, 1, 50)
    >>> bool(np.allclose(loess(x, x**2), x**2))
    True
    """
    if len(x_n) == 0:
        return np.zeros(0)
    order = np.argsort(x_n, kind="stable")
    x, y = x_n[order].astype(np.float64), y_n[order].astype(np.float64)
    n_near = min(len(x), max(int(span * len(x) + 1e-5), 4))
    corners = _corners(x, most=max(int(len(x) * span * _CELL), 1))
    fits = np.array([_parabola(x, y, corner, n_near) for corner in corners])
    fitted_n = np.empty(len(x))
    fitted_n[order] = _blend(x, corners, fits[:, 0], fits[:, 1])
    return fitted_n


def _corners(x: _Floats, most: int) -> _Floats:
    """Split sorted points at their lower medians until no cell has more than ``most``; return the ends of the cells."""
    margin = 0.005 * max(x[-1] - x[0], 1e-10 * max(abs(x[0]), abs(x[-1])) + 1e-30)
    low, high = float(x[0] - margin), float(x[-1] + margin)
    cuts, cells = {low, high}, [(0, len(x), low, high)]
    while cells:
        start, stop, left, right = cells.pop()
        if stop - start <= most:
            continue
        middle = _between_ties(x, start, stop)
        cut = float(x[middle - 1])
        if cut in (left, right):
            continue
        cuts.add(cut)
        cells += [(start, middle, left, cut), (middle, stop, cut, right)]
    return np.array(sorted(cuts))


def _between_ties(x: _Floats, start: int, stop: int) -> int:
    """Return the index closest to the middle of ``x[start:stop]`` where a split does not separate equal values.

    As in Cleveland's code, the search alternates between both sides, and returns the middle if it reaches an end.
    """
    centre = (start + stop + 1) // 2
    for step in range(2 * (stop - start)):
        index = centre + (-step // 2 if step % 2 == 0 else step // 2 + 1)
        if not start < index < stop:
            break
        if x[index - 1] < x[index]:
            return index
    return centre


def _parabola(x: _Floats, y: _Floats, centre: float, n_near: int) -> tuple[float, float]:
    """Fit a weighted parabola around ``centre``; return its value and its slope there.

    If the nearest points have only one or two different x, a constant or a line is fitted.
    """
    distance = np.abs(x - centre)
    width = np.partition(distance, n_near - 1)[n_near - 1]
    near = distance < width
    near = near if near.any() else distance <= width
    scale = width if width > 0 else 1.0
    weight = np.sqrt(np.maximum((1 - (distance[near] / scale) ** 3) ** 3, 1e-12))
    offset = (x[near] - centre) / scale
    powers = np.arange(min(len(np.unique(offset)), 3))
    design = offset[:, None] ** powers
    solution = np.zeros(3)
    solution[powers] = np.linalg.lstsq(design * weight[:, None], y[near] * weight, rcond=1e-7)[0]
    return float(solution[0]), float(solution[1] / scale)


def _blend(x: _Floats, corners: _Floats, value: _Floats, slope: _Floats) -> _Floats:
    """Interpolate with the cubic with the values and slopes of the corners."""
    left = np.clip(np.searchsorted(corners, x, side="right") - 1, 0, len(corners) - 2)
    width = corners[left + 1] - corners[left]
    t = (x - corners[left]) / width
    return np.asarray(
        (1 + 2 * t) * (1 - t) ** 2 * value[left]
        + t * (1 - t) ** 2 * width * slope[left]
        + t**2 * (3 - 2 * t) * value[left + 1]
        - t**2 * (1 - t) * width * slope[left + 1]
    )
