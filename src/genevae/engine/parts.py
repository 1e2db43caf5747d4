"""The blocks of all parts in order: by this process, from workers, or through files of theirs."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.engine.workers import Engine
from genevae.errors import RunError
from genevae.io.atomic import staging_folder

__all__ = ["Block", "computed_blocks"]

Block: TypeAlias = Mapping[str, Any]
"""Rows of several elements, by name: dense or CSR."""


def computed_blocks(
    found: Engine | None,
    function: Callable[..., Iterable[Block]],
    items: Iterable[tuple[Any, ...]],
    n_items: int,
    what: str,
    out: str | Path | None,
) -> Generator[Block, None, None]:
    """Yield the blocks of every item, in order.

    Parameters
    ----------
    found
        Who computes them; None for this thread.
    function
        A function of an item that returns its blocks.
    items, n_items
        The arguments of each call, and their number.
    what
        What is read, in messages.
    out
        The path of the result. Workers write their blocks into a folder beside it, which all must see; it is removed at
        the end. Without, blocks are returned to this process.

    Raises
    ------
    DataError
        If a worker dies again and again.
    """
    if found is None:
        for item in items:
            yield from function(*item)
    elif out is None:
        for blocks in found.in_order(partial(_listed, function), items, n_items, what):
            yield from blocks
    else:
        with staging_folder(Path(f"{Path(out).absolute()}.parts")) as folder:
            for path in found.in_order(partial(_written, function, folder), items, n_items, what, ahead=2):
                yield from _read_blocks(path)
                path.unlink()


def _listed(function: Callable[..., Iterable[Block]], *item: Any) -> list[Block]:
    return list(function(*item))


def _written(function: Callable[..., Iterable[Block]], folder: Path, *item: Any) -> Path:
    """Write the blocks of a part to a file of its own; another worker may be writing the same part."""
    path = folder / uuid.uuid4().hex
    try:
        with path.open("wb") as file:
            for block in function(*item):
                _write_block(file, block)
    except OSError as error:
        raise RunError(
            f"A worker cannot write {path}: {error.strerror or error}. The result must be in a folder that all workers "
            "see, on a disk with room for it."
        ) from error
    return path


def _write_block(file: Any, block: Block) -> None:
    """Append a block: a line of JSON with the shape of each element and its arrays, and then their bytes.

    The format of NumPy has a header for each array, which takes longer than the few rows of a block.
    """
    arrays = {name: _arrays(rows) for name, rows in block.items()}
    head = {
        name: (rows.shape if sparse.issparse(rows) else None, [(a.dtype.str, a.shape) for a in arrays[name]])
        for name, rows in block.items()
    }
    file.write(json.dumps(head).encode() + b"\n")
    for array in chain.from_iterable(arrays.values()):
        file.write(array.reshape(-1).view(np.uint8))


def _arrays(rows: Any) -> list[NDArray[Any]]:
    if sparse.issparse(rows):
        return [np.ascontiguousarray(array) for array in (rows.data, rows.indices, rows.indptr)]
    dense = np.ascontiguousarray(rows)
    if dense.dtype.kind in "OV":
        raise TypeError(f"a part of a result has values of the type {dense.dtype}, which files of parts cannot hold")
    return [dense]


def _read_blocks(path: Path) -> Iterator[Block]:
    with path.open("rb") as file:
        while line := file.readline():
            block: dict[str, Any] = {}
            for name, (csr_shape, described) in json.loads(line).items():
                arrays = [_read_array(file, *each) for each in described]
                block[name] = arrays[0] if csr_shape is None else sparse.csr_matrix(tuple(arrays), shape=csr_shape)
            yield block


def _read_array(file: BinaryIO, dtype: str, shape: list[int]) -> NDArray[Any]:
    return np.fromfile(file, dtype, count=math.prod(shape)).reshape(shape)
