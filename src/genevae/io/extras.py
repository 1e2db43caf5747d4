"""What data hold besides expression, cells and the names of genes: layers, embeddings and annotation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem, write_elem
from numpy.typing import NDArray

from genevae.errors import DataError
from genevae.io.formats import FORMATS, expand, find_format, open_source
from genevae.io.h5ad import from_anndata, ignore_warnings, layers_of
from genevae.io.lowlevel.hdf5 import open_hdf5
from genevae.io.lowlevel.zarr import open_group
from genevae.io.read_options import ReadOptions
from genevae.io.source import Source
from genevae.io.storable import original_names

__all__ = ["Extras", "extras_of", "matrices_of"]

READ = ("obsm", "varm", "uns")
"""The places whose elements are read as a whole."""


@dataclass(frozen=True)
class Extras:
    """What a store holds besides ``X``, ``obs`` and the names of genes.

    Parameters
    ----------
    layers
        Other expression of the same cells and genes, read by rows.
    obsm, varm
        Arrays and tables of one row per cell, and per gene.
    var
        The table of genes; None if the data have the names alone.
    uns
        Unstructured annotation.
    left
        Names of what cannot be written with the rows of another store.
    """

    layers: Mapping[str, Source] = field(default_factory=dict)
    obsm: Mapping[str, Any] = field(default_factory=dict)
    varm: Mapping[str, Any] = field(default_factory=dict)
    var: pd.DataFrame | None = None
    uns: Mapping[str, Any] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    def others(self, rows: NDArray[Any]) -> dict[str, Any]:
        """Return the elements that are written as a whole, of some cells."""
        by_cell = {f"obsm/{key}": _rows(value, rows) for key, value in self.obsm.items()}
        return by_cell | {f"varm/{key}": value for key, value in self.varm.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of everything."""
        kept = [f"{place}['{key}']" for place in ("layers", "obsm", "varm", "uns") for key in getattr(self, place)]
        columns = [] if self.var is None else [f"var['{name}']" for name in self.var.columns]
        return (*kept, *columns, *self.left)


def extras_of(data: AnnData | Source | ReadOptions | str | Path, source: Source) -> Extras:
    """Return what data hold besides what a source of them has.

    Parameters
    ----------
    data
        What the source was opened from.
    source
        The source.
    """
    if isinstance(data, AnnData):
        layers = {str(name): partial(from_anndata, data, name) for name in layers_of(data)}
        held = {place: dict(getattr(data, place)) for place in READ}
        left = [f"{place}['{key}']" for place in ("obsp", "varp") for key in getattr(data, place)]
        return _extras(held, layers, data.var, source, [*left, *(["raw"] if data.raw is not None else [])])
    if isinstance(data, str | Path):
        data = ReadOptions(path=data)
    if not isinstance(data, ReadOptions):
        return Extras()
    parts = [Path(data.path)] if data.format or data.has_globs else expand(data.path) or [Path(data.path)]
    stores = [part for part in parts if _is_store(part, data)]
    if len(parts) > 1 or data.transpose:
        return Extras(left=tuple(dict.fromkeys(name for part in stores for name in _listed(part))))
    return _stored(stores[0], data, source) if stores else Extras()


def matrices_of(
    data: object, layer: str | None = None
) -> tuple[dict[str, Callable[[], Source]], dict[str, tuple[int, ...]]]:
    """Return what opens each other matrix of expression (X, layers, raw), and the shapes of the arrays in obsm.

    Parameters
    ----------
    data
        An AnnData object, or what is opened as a single h5ad file or zarr folder; of others nothing is known.
    layer
        The matrix that is known already; X by default.
    """
    openers: dict[str, Callable[[], Source]]
    if isinstance(data, AnnData):
        shapes = {str(key): tuple(np.shape(value)) for key, value in data.obsm.items()}
        names = [
            *layers_of(data),
            *(["raw"] if data.raw is not None else []),
            *(["X"] if data.X is not None else []),
        ]
        openers = {name: partial(from_anndata, data, None if name == "X" else name) for name in names}
    elif isinstance(data, str | Path | ReadOptions):
        options = data if isinstance(data, ReadOptions) else ReadOptions(path=data)
        path, layer = Path(options.path), layer or options.layer
        is_one = not (options.format or options.has_globs or options.transpose) and expand(options.path) is None
        if not is_one or not _is_store(path, options):
            return {}, {}
        with _open(path) as root:
            names = [*root.get("layers", {}), *(name for name in ("raw", "X") if _holds(root, name))]
            obsm = root.get("obsm", {})
            shapes = {key: tuple(getattr(obsm[key], "shape", ())) for key in obsm}
        bare = ReadOptions(path=path, keep="disk")
        openers = {name: partial(open_source, replace(bare, layer=None if name == "X" else name)) for name in names}
    else:
        return {}, {}
    return {name: opener for name, opener in openers.items() if name != (layer or "X")}, shapes


def _is_store(path: Path, data: ReadOptions) -> bool:
    fmt = FORMATS[data.format] if data.format in FORMATS else find_format(path)
    return not data.has_globs and fmt in (FORMATS["h5ad"], FORMATS["zarr"])


def _open(path: Path) -> AbstractContextManager[Any]:
    return nullcontext(open_group(path)) if path.is_dir() else open_hdf5(path)


def _holds(root: Any, name: str) -> bool:
    """Whether a store has an element; anndata writes None as an empty one."""
    return name in root and root[name].attrs.get("encoding-type") != "null"


def _listed(path: Path) -> list[str]:
    """Name what a store holds, without reading it."""
    with _open(path) as root:
        columns = [f"var['{name}']" for name in root["var"].attrs.get("column-order", ())]
        held = [f"{place}['{key}']" for place in ("layers", *READ, "obsp", "varp") for key in root.get(place, {})]
        return [*held, *columns, *(["raw"] if _holds(root, "raw") else [])]


def _stored(path: Path, data: ReadOptions, source: Source) -> Extras:
    with _open(path) as root, ignore_warnings():
        of_raw = data.layer == "raw" and "raw" not in root.get("layers", {})
        table = root["raw/var"] if of_raw else root["var"]
        var = original_names(read_elem(table), table.attrs)
        held: dict[str, dict[str, Any]] = {place: {} for place in READ}
        left = [f"{place}['{key}']" for place in ("obsp", "varp") for key in root.get(place, {})]
        for place in READ:
            for key in root.get(place, {}):
                try:
                    held[place][key] = read_elem(root[place][key])
                except Exception:  # noqa: BLE001 - anndata raises any error, if it does not know a type
                    left.append(f"{place}['{key}']")
        names = [name for name in root.get("layers", {}) if name != data.layer]
        left += ["raw"] if "raw" in root and not of_raw else []
        left += ["X"] if data.layer is not None and "X" in root else []
    if of_raw:  # whose genes are others
        left += [*(f"layers['{name}']" for name in names), *(f"varm['{key}']" for key in held.pop("varm"))]
        names = []
    options = replace(data, metadata=(), key=None, gene_names=None)
    layers = {name: partial(open_source, replace(options, layer=name)) for name in names}
    return _extras(held, layers, var, source, left)


def _extras(
    held: Mapping[str, Mapping[str, Any]], layers: Mapping[str, Any], var: pd.DataFrame, source: Source, left: list[str]
) -> Extras:
    """Sort out what can be written."""
    opened = {}
    for name, open_layer in layers.items():
        try:
            opened[name] = open_layer()
        except DataError:  # such as one of text, or of counts that float32 cannot hold
            left.append(f"layers['{name}']")
    kept: dict[str, dict[str, Any]] = {}
    for place in READ:
        kept[place] = {}
        for key, value in held.get(place, {}).items():
            if _is_storable(str(key), value, place):
                kept[place][str(key)] = value
            else:
                left.append(f"{place}['{key}']")
    if len(var) != len(source.genes):
        return Extras(opened, kept["obsm"], {}, None, kept["uns"], (*left, *(f"varm['{key}']" for key in kept["varm"])))
    if tuple(map(str, var.index)) != source.genes:  # they were renamed
        var = var.assign(before=var.index.astype(str))
    var = var.set_axis(pd.Index(source.genes, name=var.index.name))
    return Extras(opened, kept["obsm"], kept["varm"], var, kept["uns"], tuple(left))


def _is_storable(key: str, value: Any, place: str) -> bool:
    """Return whether an element can be written: tables always, and anything else if a trial in memory succeeds."""
    if place != "uns" and (isinstance(value, pd.DataFrame) or not hasattr(value, "shape")):
        return isinstance(value, pd.DataFrame)
    try:
        with h5py.File("trial", "w", driver="core", backing_store=False) as file, warnings.catch_warnings():
            warnings.simplefilter("error")
            write_elem(file, key, value)
    except Exception:  # noqa: BLE001 - anndata raises any error
        return False
    return "/" not in key


def _rows(value: Any, rows: NDArray[Any]) -> Any:
    return value.iloc[rows] if isinstance(value, pd.DataFrame) else value[rows]
