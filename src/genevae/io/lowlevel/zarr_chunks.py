"""Where the chunks of a zarr array lie: one a file, or many in the files of a sharded array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.io.lowlevel.raw_chunks import Chunks, Unpack

__all__ = ["chunks_of"]

_PACKERS = ("blosc", "zstd", "gzip", "zlib", "lz4")
_CRC = "crc32c"
_INDEX = ["bytes", _CRC]
_CHECKSUM = 4
"""Bytes after the index of a shard."""


def chunks_of(folder: Path, array: Any) -> Chunks | None:
    """Say where the numbers of an array lie in the files of a folder; None where only zarr can read them."""
    layout, n = _layout(array.metadata.to_dict()), array.shape[0]
    is_plain = array.ndim == 1 and array.dtype.kind in "iuf" and array.dtype.isnative and n > 0
    if layout is None or not is_plain:
        return None
    n_chunks, n_files = -(-n // layout.length), -(-n // layout.per_file)
    files = tuple(folder / array.metadata.encode_chunk_key((number,)) for number in range(n_files))
    try:
        places = [_shard(file, layout) if layout.is_sharded else [(0, file.stat().st_size)] for file in files]
    except OSError:
        return None  # a chunk that was never written has no file
    file_c = np.repeat(np.arange(n_files), [len(place) for place in places])[:n_chunks]
    place_c2 = np.concatenate([np.asarray(place, dtype=np.int64) for place in places])[:n_chunks]
    if (place_c2 < 0).any():
        return None
    return Chunks(array.dtype, n, layout.length, files, file_c, place_c2[:, 0], place_c2[:, 1], layout.unpack)


@dataclass(frozen=True)
class _Layout:
    """How an axis is cut: numbers in a chunk, numbers in a file, and how a chunk is packed."""

    length: int
    per_file: int
    is_sharded: bool
    unpack: Unpack | None


def _layout(told: Mapping[str, Any]) -> _Layout | None:
    """Understand the metadata, where they tell of one of the usual ways."""
    if told["zarr_format"] == 2:
        packer = told["compressor"]
        codecs = [{"name": "bytes"}, *([{"name": packer["id"]}] if packer else [])]
        return None if told["filters"] else _usual(codecs, told["chunks"][0], told["chunks"][0], False)
    codecs, per_file = told["codecs"], told["chunk_grid"]["configuration"]["chunk_shape"][0]
    if codecs[0]["name"] != "sharding_indexed":
        return _usual(codecs, per_file, per_file, False)
    shard = codecs[0]["configuration"]
    has_usual_index = shard["index_location"] == "end" and [codec["name"] for codec in shard["index_codecs"]] == _INDEX
    if len(codecs) > 1 or not has_usual_index or _is_big(shard["index_codecs"][0]):
        return None
    return _usual(shard["codecs"], shard["chunk_shape"][0], per_file, True)


def _usual(codecs: Sequence[Mapping[str, Any]], length: int, per_file: int, is_sharded: bool) -> _Layout | None:
    from numcodecs import get_codec

    names = [codec["name"] for codec in codecs]
    packers = names[1:-1] if names[-1] == _CRC else names[1:]
    if names[0] != "bytes" or len(packers) > 1 or _is_big(codecs[0]) or not set(packers) <= set(_PACKERS):
        return None
    unpack = get_codec({"id": packers[0]}).decode if packers else None
    return _Layout(length, per_file, is_sharded, partial(_checked, unpack) if names[-1] == _CRC else unpack)


def _checked(unpack: Unpack | None, packed: bytes) -> Any:
    """Compare a chunk with the checksum behind it, and unpack it."""
    from numcodecs import get_codec

    content = get_codec({"id": _CRC, "location": "end"}).decode(packed)
    return content if unpack is None else unpack(content)


def _is_big(codec: Mapping[str, Any]) -> bool:
    return bool(codec.get("configuration", {}).get("endian", "little") != "little")


def _shard(file: Path, layout: _Layout) -> NDArray[np.int64]:
    """Read the index at the end of a shard: where each of its chunks starts, and how long it is; −1 if it has none."""
    n_bytes = layout.per_file // layout.length * 16
    with file.open("rb") as shard:
        size = shard.seek(0, 2)
        shard.seek(max(size - n_bytes - _CHECKSUM, 0))
        place_c2 = np.frombuffer(shard.read(n_bytes), dtype="<u8").astype(np.int64).reshape(-1, 2)
    if (place_c2.sum(1) > size).any():
        raise ValueError(f"the index of {file} points beyond its end")
    return place_c2
