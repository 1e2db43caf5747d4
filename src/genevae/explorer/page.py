"""The page as one file: the scripts and the style of the package, and the content as JSON.

Its security policy admits only this very script and style, by their hashes: no name in the data can run as code, and
nothing is requested from a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.plotting.training import PALETTE
from genevae.report.packing import Packer, embedded, policy_hash

__all__ = ["packed_matrix", "packed_tree", "render"]

REPORT_SCRIPTS = ("draw", "chart", "map")
"""Scripts that the page shares with the report, in the order in which they stand in the page."""
SCRIPTS = ("decode", "cells", "pictures", "results", "start")
SMALL = 4_096
"""Numbers of a matrix that are kept as 32-bit floats; larger matrices have 16 bits each."""
FULL = 32_767


def render(title: str, content: Mapping[str, Any], packer: Packer) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    title
        The title of the window.
    content
        What the scripts read, as JSON values.
    packer
        The arrays that the content refers to.
    """
    style = _part("report", "report.css") + _part("explorer", "explorer.css")
    shared = [_part("report", f"{name}.js") for name in REPORT_SCRIPTS]
    script = "\n".join(
        ["(() => {", "'use strict';", *shared, *(_part("explorer", f"{s}.js") for s in SCRIPTS), "})();"]
    )
    whole = {**content, "palette": PALETTE, "runs": [], "roles": {}, "arrays": packer.arrays}
    places = {
        "style_hash": policy_hash(style),
        "script_hash": policy_hash(script),
        "title": escape(title),
        "version": escape(version("genevae")),
        "style": style,
        "content": embedded(whole),
        "script": script,
    }
    before, *parts = _part("explorer", "explorer.html").split("{{")
    return before + "".join(places[name] + rest for name, _, rest in (part.partition("}}") for part in parts))


def packed_tree(tree: Any, packer: Packer) -> Any:
    """Return nested dictionaries with their arrays packed."""
    if isinstance(tree, Mapping):
        return {name: packed_tree(each, packer) for name, each in tree.items()}
    if isinstance(tree, list):
        return [packed_tree(each, packer) for each in tree]
    if not isinstance(tree, np.ndarray):
        return tree
    if tree.ndim == 1:
        return {"vector": packer.array(tree.astype("<f4"))}
    depth = {"depth": len(tree)} if tree.ndim == 3 else {}
    return {**packed_matrix(tree.reshape(-1, tree.shape[-1]), packer), **depth}


def packed_matrix(x_mk: NDArray[Any], packer: Packer) -> dict[str, Any]:
    """Pack a matrix: small ones as 32-bit floats, others as 16-bit codes with a scale for each row.

    w = scale · sign(q) · (q / 32,767)². The largest value of a row has an error of at most 3e-5 of itself, smaller ones
    of less, in absolute terms. Half floats are as large, and have up to 5e-4 of each weight.
    """
    shape = {"rows": x_mk.shape[0], "columns": x_mk.shape[1]}
    if x_mk.size <= SMALL:
        return {**shape, "values": packer.array(x_mk.astype("<f4").ravel())}
    x_mk = x_mk.astype(np.float64)
    scale_m = np.abs(x_mk).max(1).astype("<f4")
    share_mk = x_mk / np.maximum(scale_m, np.finfo(np.float32).tiny)[:, None]
    code_mk = np.rint(FULL * np.sign(share_mk) * np.sqrt(np.abs(share_mk))).astype("<i2")
    return {**shape, "codes": packer.array(code_mk.ravel()), "scale": packer.array(scale_m)}


def _part(package: str, name: str) -> str:
    return (files(f"genevae.{package}") / name).read_text(encoding="utf-8")
