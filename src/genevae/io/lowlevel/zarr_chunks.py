"""Positions of the chunks of a zarr array: one per file, or several per file of a sharded array."""

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
"""Bytes of the checksum after the index of a shard."""


def chunks_of(folder: Path, array: Any) -> Chunks | None:
    """Return the positions of an array's chunks in the files of a folder, or None if only zarr can read them."""
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
    """The layout of an axis: values per chunk, values per file, and the compression of chunks."""

    length: int
    per_file: int
    is_sharded: bool
    unpack: Unpack | None


def _layout(metadata: Mapping[str, Any]) -> _Layout | None:
    """Parse the metadata of an array; return None for layouts that are not supported here."""
    if metadata["zarr_format"] == 2:
        compressor = metadata["compressor"]
        codecs = [{"name": "bytes"}, *([{"name": compressor["id"]}] if compressor else [])]
        return None if metadata["filters"] else _supported(codecs, metadata["chunks"][0], metadata["chunks"][0], False)
    codecs, per_file = metadata["codecs"], metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    if codecs[0]["name"] != "sharding_indexed":
        return _supported(codecs, per_file, per_file, False)
    shard = codecs[0]["configuration"]
    has_known_index = shard["index_location"] == "end" and [codec["name"] for codec in shard["index_codecs"]] == _INDEX
    if len(codecs) > 1 or not has_known_index or _is_big_endian(shard["index_codecs"][0]):
        return None
    return _supported(shard["codecs"], shard["chunk_shape"][0], per_file, True)


def _supported(codecs: Sequence[Mapping[str, Any]], length: int, per_file: int, is_sharded: bool) -> _Layout | None:
    """Return the layout with these codecs, or None if they are not supported."""
    from numcodecs import get_codec

    names = [codec["name"] for codec in codecs]
    packers = names[1:-1] if names[-1] == _CRC else names[1:]
    if names[0] != "bytes" or len(packers) > 1 or _is_big_endian(codecs[0]) or not set(packers) <= set(_PACKERS):
        return None
    unpack = get_codec({"id": packers[0]}).decode if packers else None
    return _Layout(length, per_file, is_sharded, partial(_checked, unpack) if names[-1] == _CRC else unpack)


def _checked(unpack: Unpack | None, packed: bytes) -> Any:
    """Verify the checksum at the end of a chunk, and decompress it."""
    from numcodecs import get_codec

    content = get_codec({"id": _CRC, "location": "end"}).decode(packed)
    return content if unpack is None else unpack(content)


def _is_big_endian(codec: Mapping[str, Any]) -> bool:
    return bool(codec.get("configuration", {}).get("endian", "little") != "little")


def _shard(file: Path, layout: _Layout) -> NDArray[np.int64]:
    """Read the index at the end of a shard: offset and length of each of its chunks, −1 for missing ones."""
    n_bytes = layout.per_file // layout.length * 16
    with file.open("rb") as shard:
        size = shard.seek(0, 2)
        shard.seek(max(size - n_bytes - _CHECKSUM, 0))
        place_c2 = np.frombuffer(shard.read(n_bytes), dtype="<u8").astype(np.int64).reshape(-1, 2)
    if (place_c2.sum(1) > size).any():
        raise ValueError(f"the index of {file} points beyond its end")
    return place_c2
