"""Gene sets as GMT files: one set per line, with name, description and genes, separated by tabs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from genevae.errors import DataError
from genevae.io.tables.text import require_file, unpacked

__all__ = ["numbered", "read_gene_sets"]


def read_gene_sets(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read the gene sets of a GMT file, which may be compressed (.gz).

    Blank lines and empty fields are skipped. A gene that is repeated in a set is returned once.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        The genes of each set by its name, in the order of the file.

    Raises
    ------
    DataError
        If the file does not exist or is not text, a line has no gene, or a name occurs twice.
    """
    path = Path(path)
    require_file(path)
    try:
        with unpacked(path) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as gene sets ({error}). Give a GMT file, which is text.") from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            name, genes = _set_of(path, number, line)
            if name in sets:
                raise DataError(f"{path}: line {number} repeats the set '{name}'. Rename one, or merge them.")
            sets[name] = genes
    if not sets:
        raise DataError(f"{path} has no gene set. Give one line per set, with name, description and genes.")
    return sets


def numbered(sets: Mapping[str, Sequence[str]], genes: Sequence[str], least: int) -> dict[str, tuple[int, ...]]:
    """Return the gene sets as sorted numbers of genes, those with ``least`` of them or more.

    >>> numbered({"one": ["B", "Z"], "two": ["C", "A"]}, ["A", "B", "C"], least=2)
    {'two': (0, 2)}
    """
    place = {str(gene): number for number, gene in enumerate(genes)}
    found = {name: tuple(sorted({place[gene] for gene in members if gene in place})) for name, members in sets.items()}
    return {name: numbers for name, numbers in found.items() if len(numbers) >= least}


def _set_of(path: Path, number: int, line: str) -> tuple[str, tuple[str, ...]]:
    """Parse a line."""
    name, *rest = (field.strip() for field in line.rstrip("\r\n").split("\t"))
    genes = tuple(dict.fromkeys(filter(None, rest[1:])))
    if not name or not genes:
        raise DataError(
            f"{path}: line {number} is not a gene set: '{line[:60]}'. A line of a GMT file has a name, a description "
            "(which may be empty) and at least one gene, separated by tabs."
        )
    return name, genes
