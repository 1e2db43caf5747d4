"""Gene sets as GMT files: a set a line, its name, what it is, and its genes, with tabs between."""

from __future__ import annotations

from pathlib import Path

from genevae.errors import DataError
from genevae.io.tables.text import require_file, unpacked

__all__ = ["read_gene_sets"]


def read_gene_sets(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read the gene sets of a GMT file, which may be packed (.gz).

    Blank lines are passed over, as are empty fields; a gene that comes twice in a set is kept once.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        For each set's name its genes, in the order of the file.

    Raises
    ------
    DataError
        If there is no such file, it is not text, a line holds no gene, or a name comes twice.
    """
    path = Path(path)
    require_file(path)
    try:
        with unpacked(path) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as gene sets ({error}): give a GMT file, which is text.") from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            name, genes = _set_of(path, number, line)
            if name in sets:
                raise DataError(f"{path}: line {number} names the set '{name}' again. Rename one, or join them.")
            sets[name] = genes
    if not sets:
        raise DataError(f"{path} names no gene set: give a line for each, with its name, what it is, and its genes.")
    return sets


def _set_of(path: Path, number: int, line: str) -> tuple[str, tuple[str, ...]]:
    """Take a line apart."""
    name, *rest = (field.strip() for field in line.rstrip("\r\n").split("\t"))
    genes = tuple(dict.fromkeys(filter(None, rest[1:])))
    if not name or not genes:
        raise DataError(
            f"{path}: line {number} is no gene set: '{line[:60]}'. A line of a GMT file has a name, a description "
            "(which may be empty) and one gene or more, with tabs between."
        )
    return name, genes
