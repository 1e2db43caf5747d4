"""Matching the genes of data with the genes of a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genevae.errors import GeneError, shorten
from genevae.io.concat import ConcatenatedMatrix, move_columns, panels_of
from genevae.io.source import FileSource, MemorySource, Source

__all__ = ["gene_columns", "match_genes"]

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?(_PAR_Y)?", re.IGNORECASE)
_VERSION = re.compile(r"\.\d+$")


def match_genes(source: Source, genes: Sequence[str], allow_missing: bool = False) -> Source:
    """Return a source with the columns of a model, in the model's order and with its names.

    Names are compared exactly first. If genes are missing, Ensembl ids are compared without their version, and the
    other gene names in the data are tried.

    Parameters
    ----------
    source
        The data. In memory, the columns are copied; otherwise they are selected when rows are read.
    genes
        The model's genes.
    allow_missing
        Whether the data may lack some of the genes. Lacking all of them is an error.

    Raises
    ------
    GeneError
        If genes are missing (with the likely reason), or if a gene occurs twice.
    """
    genes = tuple(map(str, genes))
    if genes == source.genes:
        return source
    column_g = gene_columns(source, genes, allow_missing)
    panels = panels_of([source], [column_g], len(genes))
    if isinstance(source, MemorySource):
        x_ng = move_columns(source.x_ng, column_g, len(genes))
        return MemorySource(source.name, x_ng, genes, source.obs, {}, panels)
    return FileSource(
        source.name, ConcatenatedMatrix((source,), (column_g,), len(genes)), genes, source.obs, {}, panels
    )


def gene_columns(source: Source, genes: Sequence[str], allow_missing: bool = False) -> NDArray[np.int64]:
    """Return, for each column of a source, which of a model's genes it is, or −1; as :func:`match_genes` finds them."""
    genes = tuple(map(str, genes))
    _require_unique("the required genes", genes, set(genes))
    required, names = _best_naming(source, genes)
    _require_unique(source.name, names, set(required))
    present = set(names)
    missing = sorted(gene for gene, name in zip(genes, required, strict=True) if name not in present)
    if missing and (not allow_missing or len(missing) == len(genes)):
        raise GeneError(
            f"{source.name} lacks {len(missing):,} of the {len(genes):,} required genes: {shorten(missing)}. "
            f"{_reason_missing(missing, source.genes, lacks_all=len(missing) == len(genes))}"
        )
    column_of = {name: column for column, name in enumerate(required)}
    return np.array([column_of.get(name, -1) for name in names], dtype=np.int64)


def _best_naming(source: Source, genes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the required names and the names of the columns, in the naming scheme with most matches."""
    best, most = (genes, source.genes), len(set(genes) & set(source.genes))
    unversioned = tuple(map(_without_version, genes))
    for names in (source.genes, *source.aliases.values()):
        for required, given in ((genes, names), (unversioned, tuple(map(_without_version, names)))):
            n_found = len(set(required) & set(given))
            if n_found > most and len(set(required)) == len(genes):
                best, most = (required, given), n_found
    return best


def _require_unique(name: str, genes: Sequence[str], required: set[str]) -> None:
    """Raise if a required gene occurs more than once."""
    twice = [f"{gene} ({times} times)" for gene, times in Counter(genes).items() if times > 1 and gene in required]
    if twice:
        raise GeneError(
            f"In {name}, {len(twice)} of the genes occur more than once: {shorten(twice)}. Keep one column of each, "
            "for example after adata.var_names_make_unique(), or add them up."
        )


def _reason_missing(missing: list[str], present: tuple[str, ...], lacks_all: bool) -> str:
    """Explain missing genes by case or naming scheme, and say what to do."""
    folded = {gene.casefold(): gene for gene in present}
    pairs = [(gene, folded[gene.casefold()]) for gene in missing if gene.casefold() in folded]
    if len(pairs) * 2 > len(missing):
        return (
            f"{len(pairs):,} of them differ in case only ({pairs[0][0]} is {pairs[0][1]} in the data). If this is "
            "another species, map its genes to their orthologues."
        )
    if _are_ensembl(missing) != _are_ensembl(present):
        schemes = ("Ensembl ids", "gene symbols")
        required, given = schemes if _are_ensembl(missing) else schemes[::-1]
        return f"{required} are required, but the data have {given}. Put the {required} into var_names (see adata.var)."
    advice = f"The data have {shorten(present, 3)}. Give data with these genes."
    if lacks_all:
        return advice
    return (
        f"{advice} A model takes genes that a file lacks as missing, not as zero, with --join outer (in Python: "
        "genevae.io.formats.ReadOptions(path, join='outer'))."
    )


def _without_version(gene: str) -> str:
    return _VERSION.sub("", gene) if _ENSEMBL.fullmatch(gene) else gene


def _are_ensembl(genes: Sequence[str]) -> bool:
    """Whether most names are Ensembl ids."""
    return sum(_ENSEMBL.fullmatch(gene) is not None for gene in genes) * 2 > len(genes)
