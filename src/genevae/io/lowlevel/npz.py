"""Matrices written by ``scipy.sparse.save_npz``: CSR or CSC."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError, shorten
from genevae.io.bounded import require_regular, require_room
from genevae.io.lowlevel.csr_ranges import check_indptr
from genevae.io.lowlevel.dense import as_float32

__all__ = ["read_npz", "shape_of_npz"]

_PARTS = ("data", "indices", "indptr")
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that NumPy and zipfile raise for damaged files."""


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the arrays of a file by name, and turn errors into messages that name the file."""
    try:
        packed = require_regular(path)
        with path.open("rb") as file, _several(path, np.load(file, allow_pickle=False), packed) as arrays:
            yield arrays
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): copy or write it again.") from error
    except _DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"{path} cannot be read ({reason}): it is damaged, or was not written by scipy.sparse.save_npz; "
            "copy or write it again."
        ) from error


def _several(path: Path, arrays: Any, packed: int) -> Any:
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise DataError(f"{path} is one array, not a sparse matrix. Write it with scipy.sparse.save_npz.")
    members: Any = arrays.zip
    for member in members.infolist():
        require_room(f"{path} ({member.filename})", max(member.file_size, _declared_bytes(arrays, member)), packed)
    return arrays


def _declared_bytes(arrays: Any, member: zipfile.ZipInfo) -> int:
    """Return the bytes that the head of an array declares."""
    with arrays.zip.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return int(np.prod(shape, dtype=object)) * dtype.itemsize


def shape_of_npz(path: Path) -> tuple[int, int]:
    """Return the number of cells and of genes, without reading the matrix.

    Raises
    ------
    DataError
        If the file is damaged, or has no CSR or CSC matrix.
    """
    with _opened(path) as arrays:
        return _head(path, arrays)[1]


def _head(path: Path, arrays: Any) -> tuple[str, tuple[int, int]]:
    """Return the format and the shape."""
    lacking = [name for name in ("format", "shape", *_PARTS) if name not in arrays.files]
    if lacking == list(_PARTS[1:]) or "format" in lacking or "shape" in lacking:
        raise DataError(
            f"{path} holds no CSR matrix: it has {shorten(arrays.files) or 'nothing'}, and lacks {shorten(lacking)}. "
            "Write it with scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(x))."
        )
    kind, shape = arrays["format"], arrays["shape"]
    name = kind.item().decode("latin1") if kind.dtype.kind == "S" and kind.ndim == 0 else str(kind)
    if name not in ("csr", "csc") or lacking:
        raise DataError(
            f"{path} is in the sparse format '{name}'{' without ' + shorten(lacking) if lacking else ''}, and CSR was "
            "expected: write it with scipy.sparse.save_npz(path, x.tocsr())."
        )
    if shape.dtype.kind not in "iu" or shape.shape != (2,) or (shape < 0).any() or (shape > np.int64(2**62)).any():
        raise DataError(
            f"{path} is damaged: {shape.tolist()} cannot be a number of cells and of genes. Write it again."
        )
    return name, (int(shape[0]), int(shape[1]))


def read_npz(path: Path) -> sparse.csr_matrix:
    """Read a matrix of cells × genes.

    Indices are checked before they are passed to SciPy, which does not check them. Repeated entries are summed.

    Parameters
    ----------
    path
        The file, compressed or not.

    Returns
    -------
    csr_matrix
        float32, with sorted columns.

    Raises
    ------
    DataError
        If the file is damaged, has no CSR or CSC matrix, or a count is too large for float32.
    """
    with _opened(path) as arrays:
        kind, shape = _head(path, arrays)
        data, indices, indptr = (arrays[name] for name in _PARTS)
        for name, values, kinds in (("data", data, "biuf"), ("indices", indices, "iu"), ("indptr", indptr, "iu")):
            if values.ndim != 1 or values.dtype.kind not in kinds:
                raise DataError(
                    f"{path} is damaged: its '{name}' is an array of {values.dtype} with {values.ndim} axes, and one "
                    "axis of numbers was expected. Copy or write it again."
                )
        n_major, n_minor = shape if kind == "csr" else shape[::-1]
        starts = check_indptr(str(path), indptr, n_major, len(data))
        _require_in_range(path, indices, len(data), n_minor)
        width = np.int32 if max(n_minor, len(data)) < 2**31 else np.int64
        parts = (_native(data), indices.astype(width), starts.astype(width))
        x = sparse.csr_matrix(parts, shape) if kind == "csr" else sparse.csc_matrix(parts, shape).tocsr()
        return _tidy(x, f"The matrix in {path}")


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in native byte order, and booleans as numbers."""
    return (
        values.view(np.uint8) if values.dtype.kind == "b" else values.astype(values.dtype.newbyteorder("="), copy=False)
    )


def _require_in_range(path: Path, indices: NDArray[Any], n_entries: int, n_minor: int) -> None:
    if len(indices) != n_entries:
        raise DataError(
            f"{path} is damaged: it has {n_entries:,} values and {len(indices):,} column numbers (indices). "
            "Copy or write it again."
        )
    if n_entries and (indices.min() < 0 or indices.max() >= n_minor):
        raise DataError(
            f"{path} is damaged: its column numbers (indices) lie between {indices.min()} and {indices.max()}, and "
            f"there are {n_minor:,} columns. Copy or write it again."
        )


def _tidy(x: sparse.csr_matrix, name: str) -> sparse.csr_matrix:
    """Sort the columns, sum repeated entries, and convert to float32."""
    if not x.has_canonical_format:
        x = sparse.csr_matrix((x.data.astype(np.float64), x.indices, x.indptr), x.shape)  # a sum of bytes may overflow
        x.sum_duplicates()
    return sparse.csr_matrix((as_float32(x.data, name), x.indices, x.indptr), x.shape)
