"""Text files of rows and fields, compressed or not, read line by line.

A record is one row: a line, or several if a quoted field contains line breaks. Quoting is that of the csv module.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from genevae.errors import DataError, missing_path, shorten
from genevae.io.bounded import require_regular, require_room

__all__ = [
    "count_fields",
    "kind_of",
    "missing_package",
    "packing_of",
    "read_header",
    "records",
    "require_file",
    "separator_of",
    "split",
    "unpacked",
    "without_empty_end",
]

PACKINGS = ("gz", "zst")
SEPARATORS = {"csv": ",\t; ", "tsv": "\t,; ", "txt": "\t,; ", "gct": "\t"}
"""Possible separators by suffix, the likeliest first. A space stands for any number of spaces and tabs, as in R."""

_BUFFER = 1 << 13
"""Compressed bytes to decompress at once: few, because each may expand to thousands."""
_LONGEST = 100
"""Lines that one quoted field may span. More of them mean that a quote is never closed."""
_LONGEST_LINE = 2**26
"""Bytes of a line: those of a table of millions of columns."""
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SPACES = re.compile(r'("(?:[^"]|"")*")|\s+')
_PEEK = 1000
"""Rows that are compared with the header, of at most ``_PEEK_BYTES``."""
_PEEK_BYTES = 1 << 22


def kind_of(path: Path) -> str:
    """Return the suffix without dot and compression: ``csv`` for ``a.csv.gz``."""
    suffixes = [suffix[1:].lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in PACKINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def packing_of(path: Path) -> str | None:
    """Return the compression of a file: gz, zst or None."""
    suffix = path.suffix[1:].lower()
    return suffix if suffix in PACKINGS else None


def require_file(path: Path) -> None:
    """Raise if a file does not exist or is empty."""
    if not path.exists():
        raise DataError(missing_path(path))
    if path.is_dir():
        raise DataError(f"{path} is a folder, but a table was expected. Give a file.")
    if not require_regular(path):
        raise DataError(f"{path} is empty (0 bytes). Write or download it again.")


def missing_package(path: Path, package: str) -> DataError:
    """Return the error for a package that a format needs."""
    return DataError(f"Reading {path} needs {package}, which is not installed: pip install 'genevae[formats]'.")


@contextmanager
def unpacked(path: Path, whole: bool = False) -> Iterator[BinaryIO]:
    """Yield the bytes of a text file that may be compressed.

    Parameters
    ----------
    path
        The file.
    whole
        Whether all of it will be in memory, so that its size is bounded as well as that of each line.
    """
    packing = packing_of(path)
    with path.open("rb") as file:
        if packing == "gz":
            with gzip.open(file, "rb") as inner:
                yield io.BufferedReader(_Lines(path, inner, whole))
        elif packing == "zst":
            yield io.BufferedReader(_Lines(path, io.BufferedReader(_Zstd(path, file)), whole))
        else:
            yield io.BufferedReader(_Lines(path, file, whole))


class _Lines(io.RawIOBase):
    """The content of a file, which must have lines of bounded length; else a reader of lines would fill the memory."""

    def __init__(self, path: Path, file: Any, whole: bool) -> None:
        self._path, self._file, self._whole = path, file, whole
        self._packed = require_regular(path)
        self._length = self._total = self._ends = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n: int = self._file.readinto(buffer)
        content = bytes(memoryview(buffer)[:n])
        if b"\0" in content:
            line = self._ends + content[: content.index(b"\0")].count(b"\n") + 1
            raise DataError(f"{self._path} is not text: line {line} has a zero byte. Save it as UTF-8 text.")
        last = content.rfind(b"\n")
        self._ends += content.count(b"\n")
        self._total += n
        self._length = self._length + n if last < 0 else n - last - 1
        if self._length > _LONGEST_LINE:
            raise DataError(
                f"{self._path} is not a table of text: it has a line of more than {_LONGEST_LINE:,} bytes. Write it "
                "with one line for each row."
            )
        if self._whole:
            require_room(self._path, self._total, self._packed)
        return n


class _Zstd(io.RawIOBase):
    """The content of a zstd file. The reader of the zstandard package does not detect truncated files."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise missing_package(path, "zstandard") from error
        self._file, self._waiting, self._zstandard = file, b"", zstandard
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            packed = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            packed = packed or self._file.read(_BUFFER)
            if not packed and (self._frame is None or self._frame.eof):
                return 0
            self._waiting = self._unpack(packed)
        n = min(len(buffer), len(self._waiting))
        buffer[:n], self._waiting = self._waiting[:n], self._waiting[n:]
        return n

    def _unpack(self, packed: bytes) -> bytes:
        if not packed:
            raise EOFError("it ends within a zstd frame")
        if self._frame is None or self._frame.eof:
            self._frame = self._zstandard.ZstdDecompressor().decompressobj()
        try:
            content: bytes = self._frame.decompress(packed)
        except self._zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        return content


def _lines(path: Path, whole: bool) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, without blank lines."""
    try:
        with unpacked(path, whole) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            for number, line in enumerate(text, 1):
                if line.strip("\r\n"):
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error.reason}). Save it as UTF-8.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). It is truncated or damaged. Get it again.") from error


def separator_of(path: Path) -> str:
    """Detect the separator from the first line and the suffix."""
    likely = SEPARATORS.get(kind_of(path), SEPARATORS["txt"])
    for _, line in _lines(path, whole=False):
        if not _is_comment(path, line):
            bare = _QUOTED.sub("", line)
            return next((separator for separator in likely if separator in bare), likely[0])
    raise DataError(f"{path} is empty: it has no line. Write or download it again.")


def _is_comment(path: Path, line: str) -> bool:
    """Return whether a line above the header is a comment, as in featureCounts; a header may start with # as well."""
    likely = SEPARATORS.get(kind_of(path), SEPARATORS["txt"])[0]
    return line.startswith("##") or (line.startswith("#") and likely not in line and kind_of(path) != "gct")


def records(path: Path, separator: str, whole: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the number of the first line of each record, and the record, without blank lines and comments at the top.

    Raises
    ------
    DataError
        If the file is damaged or not text, or a quoted field is never closed.
    """
    lines = _lines(path, whole)
    at_top = True
    for number, line in lines:
        if at_top and _is_comment(path, line):
            continue
        at_top = False
        if '"' in line and _is_open(line, separator):
            line = _complete(path, number, line, lines, separator)  # noqa: PLW2901 - the complete record
        record = line.rstrip("\r\n")
        yield number, _SPACES.sub(lambda found: found[1] or " ", record.strip()) if separator == " " else record


def read_header(path: Path, separator: str) -> list[str]:
    """Read the title of every column, and check them against the first rows.

    R writes no title of the row names, so that the header is one field short. Separators at the end of rows, of the
    header or of both are no columns.

    Raises
    ------
    DataError
        If the file is empty, or the last column has values but no title.
    """
    lines = records(path, separator)
    header = next((split(path, number, record, separator) for number, record in lines), [])
    n_titles = _n_used(header)
    n_first = n_used = size = 0
    for number, record in islice(lines, _PEEK):
        fields = split(path, number, record, separator)
        n_first, n_used, size = n_first or len(fields), max(n_used, _n_used(fields)), size + len(record)
        if n_titles < len(header) and n_used > n_titles:
            raise DataError(
                f"{path} has {len(header)} fields in its header, and the last has no title, but in line {number} it is "
                f"'{fields[n_titles][:40]}'. Give the column a title. If the header lacks the title of the first "
                "column, begin the header with a separator."
            )
        if size > _PEEK_BYTES:
            break
    if not n_first:
        raise DataError(f"{path} is empty: it has no rows below the header ({shorten(header)}).")
    header = header[:n_titles]
    return ["", *header] if min(n_first, n_used) > n_titles else header


def _n_used(fields: list[str]) -> int:
    """Return the number of fields up to the last that is not empty."""
    return next((at for at in range(len(fields), 0, -1) if fields[at - 1]), 0)


def without_empty_end(record: str, separator: str, n_fields: int, n_columns: int) -> str:
    """Return a record without the empty fields at its end that exceed the columns."""
    extra = n_fields - n_columns
    return record[:-extra] if extra > 0 and record.endswith(separator * extra) else record


def _complete(path: Path, number: int, line: str, lines: Iterator[tuple[int, str]], separator: str) -> str:
    """Add the following lines to a line that ends within quotes."""
    for _, (_, more) in zip(range(_LONGEST), lines, strict=False):
        line += more
        if '"' in more and not _is_open(line, separator):
            return line
    raise DataError(f'{path}, line {number}, has a quote that is not closed. Remove it, or write it twice ("").')


def _is_open(text: str, separator: str) -> bool:
    """Return whether a text ends within a quoted field."""
    if text.count('"') % 2 == 0:
        return False
    try:
        list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


def split(path: Path, number: int, record: str, separator: str) -> list[str]:
    """Split a record into its fields.

    Raises
    ------
    DataError
        If the csv module cannot split it.
    """
    if '"' not in record:
        return record.split(separator)
    try:
        rows = list(csv.reader(io.StringIO(record, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {number}, cannot be split into fields: {error}.") from error
    return [field for row in rows for field in row]


def count_fields(path: Path, number: int, record: str, separator: str) -> int:
    """Count the fields of a record."""
    return len(split(path, number, record, separator)) if '"' in record else record.count(separator) + 1
