"""The blocks of all parts in order: by this process, from workers, or through files of theirs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
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
    """Append a block: a line of JSON with the width of each CSR element, and then the arrays."""
    widths = {name: int(rows.shape[1]) if sparse.issparse(rows) else None for name, rows in block.items()}
    file.write(json.dumps(widths).encode() + b"\n")
    for name, width in widths.items():
        rows = block[name]
        if width is None:
            np.save(file, np.asarray(rows), allow_pickle=False)
        else:
            for array in (rows.data, rows.indices, rows.indptr):
                np.save(file, array, allow_pickle=False)


def _read_blocks(path: Path) -> Iterator[Block]:
    with path.open("rb") as file:
        while line := file.readline():
            block: dict[str, Any] = {}
            for name, width in json.loads(line).items():
                if width is None:
                    block[name] = np.load(file, allow_pickle=False)
                else:
                    data, indices, indptr = (np.load(file, allow_pickle=False) for _ in range(3))
                    block[name] = sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, width))
            yield block
