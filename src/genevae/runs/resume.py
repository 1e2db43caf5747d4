"""Continue a fit that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genevae.calls import public
from genevae.errors import RecipeError, RunError, shorten
from genevae.io.formats import ReadOptions
from genevae.io.source import Source
from genevae.runs.config import FitConfig
from genevae.runs.config_file import read_config
from genevae.runs.fit import fit_in
from genevae.runs.folder import SAME, RunFolder
from genevae.runs.manifest import MANIFEST, START, verify_folder
from genevae.runs.trained import Trained, load_finished
from genevae.training.callbacks import Callback

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["beginning", "resume"]

LOCATION = ("data", *(field.name for field in fields(ReadOptions)))
"""The names by which the config file says where the data are and how they are read."""


@public
def resume(
    run: str | Path,
    data: AnnData | Source | ReadOptions | str | Path | None = None,
    *,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Trained:
    """Continue a fit from its last checkpoint; the result is that of a fit that was never interrupted.

    Parameters
    ----------
    run
        The folder of the fit. Where training had ended, its model is returned.
    data
        The same data; by default they are opened again where they were.
    device
        Another device than before; only the same device gives the same bits.
    callbacks
        What takes part in training.
    progress
        Whether to show a progress bar.

    Raises
    ------
    DataError
        If the data are not the same.
    RunError
        If there is nothing to continue, another process is training in the folder, or it is damaged.
    """
    path = Path(run)
    path = path if path.name else path.resolve()
    if (path / MANIFEST).exists():
        return load_finished(path, device or "cpu")
    data, config = beginning(path, data, device)
    return fit_in(RunFolder.of(path, config.run, resumes=True), data, config, callbacks, progress)


def beginning(run: Path, data: Any, device: str | None) -> tuple[Any, FitConfig]:
    """Return the data and the options that a run began with, on another device if one is given.

    Raises
    ------
    RecipeError
        If it began with data in memory, and they are not given.
    RunError
        If the folder is damaged.
    """
    start = verify_folder(run, START, needed=["config.toml"])
    if wrong := [name for name in ("folder", "device", *SAME) if not isinstance(start.get(name), str)]:
        raise RunError(f"{run / START} is damaged: it has no {shorten(wrong)}. Copy the folder again, or train again.")
    folder = Path(start["folder"])
    options = read_config(run / "config.toml")
    location = {name: options.pop(name) for name in LOCATION if name in options}
    if "genes" in options:
        options["genes"] = _genes(options["genes"], folder)
    for name in ("gene_filter", "gene_sets", "from_run"):
        if isinstance(options.get(name), str):
            options[name] = folder / options[name]
    if data is None:
        data = _read_options(location, folder)
    elif not isinstance(data, ReadOptions):
        options["layer"] = location.get("layer")
    config = FitConfig.from_flat(options)
    return data, replace(config, run=replace(config.run, device=device or start["device"]))


def _read_options(location: Mapping[str, Any], folder: Path) -> ReadOptions:
    """Return where the data are; relative paths start in the folder of the fit."""
    if "data" not in location:
        raise RecipeError(
            "The run was trained on data in memory: give them again, as in gv.resume(run, data), or "
            "gv.load(checkpoint, data=data)."
        )
    return ReadOptions.from_flat(location, folder)


def _genes(genes: int | str | list[str], folder: Path) -> int | str | list[str] | Path:
    return folder / genes if isinstance(genes, str) and not genes.isdigit() else genes
