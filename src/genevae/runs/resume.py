"""Go on where a fit was interrupted."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genevae.errors import RecipeError
from genevae.io.formats import ReadOptions
from genevae.io.source import Source
from genevae.recipes import recipe_class
from genevae.runs.config import read_config
from genevae.runs.every import Every
from genevae.runs.fit import fit, fit_in
from genevae.runs.folder import Run
from genevae.runs.manifest import MANIFEST, START, verify_folder
from genevae.runs.trained import Trained, load
from genevae.training.history import Log

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["resume"]

_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(fit).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
}
_PLACE = ("data", *(field.name for field in fields(ReadOptions)))
"""Names by which the config file says where the data are and how they are read."""


def resume(
    run: str | Path,
    data: AnnData | Source | ReadOptions | str | Path | None = None,
    *,
    device: str | None = None,
    logs: Sequence[Log] = (),
    progress: bool = True,
) -> Trained:
    """Go on with a fit that was interrupted, from its last checkpoint: the end is that of a fit that never was.

    Parameters
    ----------
    run
        The folder that the fit was to save its model to. Where training had ended, its model is returned.
    data
        The same data; by default they are opened again where they were.
    device
        Another device than before; the same bits come from the same device only.
    logs
        Who is told of every epoch.
    progress
        Whether to show a progress bar.

    Raises
    ------
    DataError
        If the data are not the same.
    RunError
        If there is nothing to go on with, another process is at it, or the folder is damaged.
    """
    path = Path(run)
    if (path / MANIFEST).exists():
        return load(path, device or "cpu")
    begun = verify_folder(path, START)
    folder = Path(begun["folder"])
    config = read_config(path / "config.toml")
    words = {name: config.pop(name) for name in _PLACE if name in config}
    if data is None:
        data = _files(words, folder)
    elif not isinstance(data, ReadOptions):
        config["layer"] = words.get("layer")
    if "genes" in config:
        config["genes"] = _genes(config["genes"], folder)
    given = {**_DEFAULTS, **config, "logs": logs, "progress": progress, "device": device or begun["device"]}
    recipe = recipe_class(config["recipe"])().edit(config["setting"])
    every = Every.read(config["checkpoint_every"])
    return fit_in(Run(path, every=every, keep=config["keep_checkpoints"], resumes=True), data, recipe, given)


def _files(words: Mapping[str, Any], folder: Path) -> ReadOptions:
    """Find the data again: relative paths began in that folder."""
    if "data" not in words:
        raise RecipeError("The run was trained on data in memory: give them again, as in resume(run, data).")
    found = {("path" if name == "data" else name): word for name, word in words.items()}
    return ReadOptions(
        **{name: folder / word if name in {"path", "metadata"} else word for name, word in found.items()}
    )


def _genes(genes: int | str | list[str], folder: Path) -> int | str | list[str] | Path:
    return folder / genes if isinstance(genes, str) and not genes.isdigit() else genes
