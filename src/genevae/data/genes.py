"""Genes of the data, matched with those that a model knows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from genevae.errors import GeneError, shorten
from genevae.io.concat import Stacked, panels_of, place
from genevae.io.source import FileSource, MemorySource, Source

__all__ = ["match_genes"]

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?(_PAR_Y)?", re.IGNORECASE)
_VERSION = re.compile(r"\.\d+$")


def match_genes(source: Source, genes: Sequence[str], allow_missing: bool = False) -> Source:
    """Give a source the columns of a model, in the model's order and under its names.

    Names are taken as they stand; where that leaves genes out, Ensembl ids are compared without their version, and
    other names that the data give their genes are tried too.

    Parameters
    ----------
    source
        The data. In memory, the columns are copied; otherwise they are chosen as rows are read.
    genes
        The model's genes.
    allow_missing
        Whether genes that the data lack are missing, and not an error, as long as any is there.

    Raises
    ------
    GeneError
        If genes are missing, with the reason where it can be told; or if one comes twice.
    """
    genes = tuple(map(str, genes))
    if genes == source.genes:
        return source
    _require_single("the list of genes asked for", genes, set(genes))
    asked, names = _naming(source, genes)
    _require_single(source.name, names, set(asked))
    present = set(names)
    missing = sorted(gene for gene, name in zip(genes, asked, strict=True) if name not in present)
    if missing and (not allow_missing or len(missing) == len(genes)):
        raise GeneError(_why_missing(source, genes, missing))
    place_of = {name: at for at, name in enumerate(asked)}
    place_g = np.array([place_of.get(name, -1) for name in names], dtype=np.int64)
    panels = panels_of([source], [place_g], len(genes))
    if isinstance(source, MemorySource):
        return MemorySource(source.name, place(source.x_ng, place_g, len(genes)), genes, source.obs, {}, panels)
    return FileSource(source.name, Stacked((source,), (place_g,), len(genes)), genes, source.obs, {}, panels)


def _naming(source: Source, genes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names asked for, and those of the columns, in the way of naming under which most are found."""
    best, most = (genes, source.genes), len(set(genes) & set(source.genes))
    bare = tuple(map(_without_version, genes))
    for names in (source.genes, *source.aliases.values()):
        for asked, given in ((genes, names), (bare, tuple(map(_without_version, names)))):
            n_found = len(set(asked) & set(given))
            if n_found > most and len(set(asked)) == len(genes):
                best, most = (asked, given), n_found
    return best


def _require_single(name: str, genes: Sequence[str], asked: set[str]) -> None:
    """Raise where a gene that is asked for comes more than once."""
    twice = [f"{gene} ({times} times)" for gene, times in Counter(genes).items() if times > 1 and gene in asked]
    if twice:
        raise GeneError(
            f"In {name}, {len(twice)} of the genes come more than once: {shorten(twice)}. Keep one column of each, "
            "for example after adata.var_names_make_unique(), or add them up."
        )


def _why_missing(source: Source, genes: tuple[str, ...], missing: list[str]) -> str:
    """Say which genes are missing, why as far as names tell, and what to do."""
    return (
        f"{source.name} lacks {len(missing):,} of the {len(genes):,} genes asked for: {shorten(missing)}. "
        f"{_hint(missing, source.genes)}"
    )


def _hint(missing: list[str], present: tuple[str, ...]) -> str:
    """Explain missing genes by case or namespace."""
    folded = {gene.casefold(): gene for gene in present}
    pairs = [(gene, folded[gene.casefold()]) for gene in missing if gene.casefold() in folded]
    if len(pairs) * 2 > len(missing):
        return (
            f"{len(pairs):,} of them are there in another case ({pairs[0][0]} as {pairs[0][1]}): is this another "
            "species? Map its genes to their orthologues."
        )
    if _are_ensembl(missing) != _are_ensembl(present):
        words = ("Ensembl ids", "gene symbols")
        asked, given = words if _are_ensembl(missing) else words[::-1]
        return f"Asked for are {asked}, and the data have {given}: put the {asked} into var_names (look in adata.var)."
    return f"The data have {shorten(present, 3)}. Give data that hold these genes, or allow missing ones."


def _without_version(gene: str) -> str:
    return _VERSION.sub("", gene) if _ENSEMBL.fullmatch(gene) else gene


def _are_ensembl(genes: Sequence[str]) -> bool:
    """Whether most names are Ensembl ids."""
    return sum(_ENSEMBL.fullmatch(gene) is not None for gene in genes) * 2 > len(genes)
