"""Gene lists as text files, one name per line."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Sequence
from pathlib import Path

from genevae.errors import GeneError, missing_path, shorten
from genevae.io.atomic import replace_with, staging_folder, sync
from genevae.io.overwrite import require_free

__all__ = ["read_gene_filter", "read_gene_list", "read_gene_names", "write_gene_list"]

CODING = "protein_coding"
ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')


def write_gene_list(
    genes: Sequence[str], path: str | Path, *, flavor: str | None = None, source: str | None = None
) -> None:
    """Write gene names to a text file, one per line, as :func:`read_gene_list` reads them.

    The first line is a comment with their number and selection. The write is atomic, and replaces a file only if
    genevae wrote it.

    Parameters
    ----------
    genes
        Gene names, in order.
    path
        The file.
    flavor
        The selection method, for the comment.
    source
        The data of the selection, for the comment.

    Raises
    ------
    GeneError
        If there is no gene, a gene occurs twice, or a name could not be read back.
    RunError
        If the file cannot be written, or is of something else.
    """
    odd = [gene for gene in genes if "#" in gene or gene.strip() != gene or len(gene.splitlines()) != 1]
    twice = len(genes) - len(set(genes))
    if len(genes) == 0 or odd or twice:
        reason = f"{len(odd)} contain '#', line ends or outer spaces ({shorten(map(repr, odd))})" if odd else ""
        reason = reason or (f"{twice} are repeated" if twice else "there are none")
        raise GeneError(
            f"{path}: these {len(genes)} genes cannot be written as a gene list: {reason}. Rename or drop them."
        )
    number = f"{len(genes)} gene{'s' * (len(genes) > 1)}"
    made = [number, f"flavor {flavor}" if flavor else "", f"from {source}" if source else ""]
    header = " ".join("; ".join(filter(None, made)).split())
    path = Path(path)
    require_free(path, overwrite=True, reads=())
    with staging_folder(path) as folder:
        draft = folder / path.name
        draft.write_text("\n".join([f"# {header}", *genes, ""]), encoding="utf-8")
        sync(draft)
        replace_with(draft, path)


def read_gene_list(path: str | Path) -> list[str]:
    """Read gene names from a text file, one per line. Blank lines and comments after ``#`` are ignored.

    A repeated gene is returned once.

    Raises
    ------
    GeneError
        If the file does not exist, is not text, or has no gene.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise GeneError(f"The gene list cannot be read. {missing_path(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise GeneError(
            f"The gene list {path} cannot be read ({error}). Give a text file with one gene per line."
        ) from error
    genes = dict.fromkeys(line.split("#", 1)[0].strip() for line in text.splitlines())
    genes.pop("", None)
    if not genes:
        raise GeneError(f"The gene list {path} has no gene. Write one per line.")
    return list(genes)


def read_gene_filter(path: str | Path) -> set[str]:
    """Read the names of genes to keep: a list, or the protein-coding genes of a GTF file (.gtf, .gtf.gz).

    Of a GTF, names are ids, ids without version, and symbols, in the manner of GENCODE (``gene_type``) and Ensembl
    (``gene_biotype``).

    Raises
    ------
    GeneError
        If the file cannot be read, or has no such gene.
    """
    path = Path(path)
    if not path.name.lower().removesuffix(".gz").endswith(".gtf"):
        return set(read_gene_list(path))
    found: set[str] = set()
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("#") or CODING not in line:
                    continue
                about = dict(ATTRIBUTE.findall(line))
                if CODING in (about.get("gene_type"), about.get("gene_biotype")):
                    names = {about.get("gene_id", ""), about.get("gene_name", "")}
                    found |= names | {name.partition(".")[0] for name in names if name.startswith("ENS")}
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise GeneError(f"The GTF file {path} cannot be read ({error}).") from error
    found.discard("")
    if not found:
        raise GeneError(f"{path} has no gene with gene_type or gene_biotype '{CODING}'. Give a GTF file with either.")
    return found


def read_gene_names(path: str | Path) -> dict[str, str]:
    """Read a table of two columns, the name of a gene in the data and its name here; separated by tabs or commas.

    A line of the header is a name like any other. Lines with an empty field are left out.

    Raises
    ------
    GeneError
        If the file cannot be read, a line does not have two fields, or a gene has two names.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GeneError(f"The table of gene names {path} cannot be read ({error}).") from error
    names: dict[str, str] = {}
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter="\t" if "\t" in text else ","), 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) != 2:
            raise GeneError(f"{path}, line {number}, has {len(row)} fields. Give two: a name, and the name to use.")
        old, new = (field.strip() for field in row)
        if old and new and names.setdefault(old, new) != new:
            raise GeneError(f"{path}, line {number}, names '{old}' '{new}', and before '{names[old]}'. Keep one.")
    if not names:
        raise GeneError(f"{path} has no line with two names.")
    return names
