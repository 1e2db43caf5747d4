"""Gene lists as text files, one name per line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genevae.errors import GeneError, nearest, shorten
from genevae.io.atomic import replace_with, staging_folder, sync

__all__ = ["read_gene_list", "write_gene_list"]


def write_gene_list(
    genes: Sequence[str], path: str | Path, *, flavor: str | None = None, source: str | None = None
) -> None:
    """Write gene names to a text file, one per line, as :func:`read_gene_list` reads them.

    The first line is a comment with their number and selection. The write is atomic, and replaces an existing file.

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
        If the file cannot be written.
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
        names = [entry.name for entry in path.absolute().parent.glob("*")]
        raise GeneError(f"There is no gene list {path}. {nearest(path.name, sorted(names))}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise GeneError(
            f"The gene list {path} cannot be read ({error}). Give a text file with one gene per line."
        ) from error
    genes = dict.fromkeys(line.split("#", 1)[0].strip() for line in text.splitlines())
    genes.pop("", None)
    if not genes:
        raise GeneError(f"The gene list {path} has no gene. Write one per line.")
    return list(genes)
