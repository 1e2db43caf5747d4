"""`genevae data`: describe data, convert them, and compute on them, of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from genevae.cli.inspect import inspect
from genevae.cli.options import Data, Executor, Force, say

__all__ = ["app"]

app = App(name="data", help="Describe data, convert them, and compute on them, of any size.")
app.command(inspect)

Store = Annotated[Path, Parameter(help="The store to write: .h5ad or .zarr.")]
Workers = Annotated[int, Parameter(help="Threads that read and add up, where there is no --executor.")]


@app.command
def fields(data: Data, *, out: Path | None = None, force: Force = False) -> None:
    """Describe each obs column: its values, how many cells have one, and whether it can be a condition.

    Parameters
    ----------
    out
        A table to write, .csv, .tsv, .parquet or .json; printed by default.
    """
    from genevae.cli.table_output import require_table, write_table
    from genevae.io.formats import open_source
    from genevae.preprocessing.obs_summary import field_specifications

    if out is not None:
        require_table(out, force, data)
    table = field_specifications(open_source(data).obs).set_index("field")
    if out is None:
        say(table.to_string())
        return
    write_table(table, out, "field")
    say(f"Wrote {out}")


@app.command
def example(name: Literal["pbmc", "stimulated"] = "pbmc", *, out: Store, force: Force = False, seed: int = 0) -> None:
    """Write example data: 700 blood cells that come with scanpy.

    Parameters
    ----------
    name
        pbmc: counts with cell_type. stimulated: the same cells with simulated donors and a simulated stimulation, in
        the obs columns donor and perturbation (ctrl, stim).
    seed
        Of the simulation.
    """
    from genevae.io.write.anndata import require_store, write_anndata
    from genevae.preprocessing import example as module

    require_store(out, force, [])
    adata = module.example(name, seed)
    write_anndata(out, adata)
    say(f"Wrote {out}: {adata.n_obs:,} cells, {adata.n_vars:,} genes, {', '.join(adata.obs)}")


@app.command
def convert(
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="A store (.h5ad, .zarr), or a folder to fill with files.")],
    force: Force = False,
    to: Literal["h5ad", "zarr", "batch"] | None = None,
    cells_per_file: int | None = None,
    dense: bool = False,
    shuffle: bool = False,
    compression: Literal["gzip", "lzf", "none"] = "gzip",
    seed: int = 0,
    executor: Executor = None,
) -> None:
    """Convert data of any format, in memory that does not depend on the number of cells.

    Parameters
    ----------
    to
        The format of the files in a folder; batch files by default.
    cells_per_file
        Cells in each file of a folder; 100,000 by default, 10,000 with --dense.
    dense
        Whether to write expression as a matrix of all values. By default it is one where at most 60 % are zero.
    shuffle
        Whether to write cells in a random order, so that any contiguous block of them is a sample.
    compression
        Of HDF5 files: gzip makes them smaller, lzf is read three times as fast.
    seed
        Of the order.
    """
    from genevae.preprocessing import convert as module

    left = module.convert(
        data, out, to=to, cells_per_file=cells_per_file, dense=dense, shuffle=shuffle, compression=compression,
        seed=seed, overwrite=force, executor=executor,
    )  # fmt: skip
    say(f"Wrote {out}", *_left_out(left))


def _left_out(names: Sequence[str]) -> list[str]:
    return [f"Left out: {', '.join(names)}"] if names else []


@app.command
def transpose(data: Path, *, out: Path, force: Force = False) -> None:
    """Transpose a table of any size, without changing its texts.

    Parameters
    ----------
    data
        A .csv or .tsv table, plain, .gz or .zst.
    out
        The table to write; its suffix is the format.
    """
    from genevae.io.tables import transpose as module

    module.transpose(data, out, overwrite=force)
    say(f"Wrote {out}")


@app.command
def hvg(
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The list to write: text, one gene per line.")],
    force: Force = False,
    n_genes: int = 2000,
    flavor: Literal["seurat_v3", "seurat"] = "seurat_v3",
    batch: str | None = None,
    workers: Workers = 1,
    executor: Executor = None,
) -> None:
    """Choose highly variable genes, as scanpy does, and write the list that fit --genes takes.

    Parameters
    ----------
    n_genes
        How many genes.
    flavor
        seurat_v3 for counts; seurat for log-normalised values.
    batch
        The obs column of the technical batch, within which genes are ranked.
    """
    from genevae.data.schema import obs_column
    from genevae.io.formats import in_memory_if_fits, open_source
    from genevae.io.gene_lists import write_gene_list
    from genevae.io.overwrite import require_free
    from genevae.preprocessing.hvg import highly_variable

    require_free(out, force, [data])
    source = open_source(data)
    if executor is None:  # workers read the file themselves
        source = in_memory_if_fits(source, data.keep)
    labels = None if batch is None else obs_column(source.obs, batch)
    genes = highly_variable(source, n_genes, labels, flavor=flavor, executor=_where(executor, workers))
    write_gene_list(genes, out, flavor=flavor, source=source.name)
    say(f"Wrote {out}")


@app.command(name="filter")
def filter_(
    data: Data,
    *,
    out: Store,
    force: Force = False,
    min_counts: float | None = None,
    max_counts: float | None = None,
    min_genes: int | None = None,
    max_genes: int | None = None,
    max_mito: float | None = None,
    min_cells: int | None = None,
    workers: Workers = 1,
    executor: Executor = None,
) -> None:
    """Filter cells and genes by the usual quality numbers, and print what each rule removes.

    Parameters
    ----------
    min_counts
        Smallest sum of the counts of a cell.
    max_counts
        Largest sum of the counts of a cell.
    min_genes
        Smallest number of genes with a count in a cell.
    max_genes
        Largest number of genes with a count in a cell.
    max_mito
        Largest share of mitochondrial genes (MT-…) in the counts of a cell, from 0 to 1.
    min_cells
        Smallest number of cells with a count of a gene.
    """
    from genevae.engine import engine
    from genevae.io.extras import extras_of
    from genevae.io.write.anndata import require_store
    from genevae.preprocessing.convert import convert as write
    from genevae.preprocessing.filter import filter_cells

    require_store(out, force, [data])
    with engine(_where(executor, workers)) as found:
        filtered = filter_cells(
            data, min_counts=min_counts, max_counts=max_counts, min_genes=min_genes, max_genes=max_genes,
            max_mito=max_mito, min_cells=min_cells, executor=found,
        )  # fmt: skip
        write(filtered.source, out, overwrite=force, executor=found)
    say(str(filtered), f"Wrote {out}", *_left_out(extras_of(data, filtered.source).names))


@app.command
def pseudobulk(
    data: Data,
    *,
    out: Store,
    by: Sequence[str],
    force: Force = False,
    how: Literal["sum", "mean"] = "sum",
    min_cells: int = 1,
    workers: Workers = 1,
    executor: Executor = None,
) -> None:
    """Add up, or average, all cells of each combination of obs columns, such as donor × cell type.

    Parameters
    ----------
    by
        The obs columns whose combinations are the groups.
    how
        Sums, or means: sums divided by the number of cells.
    min_cells
        Groups of fewer cells are left out.
    """
    from genevae.io.write.anndata import require_store, write_anndata
    from genevae.preprocessing import pseudobulk as module

    require_store(out, force, [data])
    groups = module.pseudobulk(data, by=by, how=how, min_cells=min_cells, executor=_where(executor, workers))
    write_anndata(out, groups)
    say(f"Wrote {out}")


@app.command
def mixtures(
    data: Data,
    *,
    out: Store,
    by: str,
    n: int,
    force: Force = False,
    cells: int = 500,
    concentration: float = 1.0,
    group: str | None = None,
    seed: int = 0,
    workers: Workers = 1,
    executor: Executor = None,
) -> None:
    """Mix cells of several types at random, and add up their counts.

    Parameters
    ----------
    by
        The obs column of types to mix.
    n
        How many mixtures.
    cells
        How many cells each adds up.
    concentration
        Of the Dirichlet of the proportions: below 1, few types dominate a mixture; far above, all are equal.
    group
        An obs column, such as the donor: each mixture is of one of its levels.
    seed
        Same seed, same mixtures.
    """
    from genevae.io.write.anndata import require_store, write_anndata
    from genevae.preprocessing import pseudobulk as module

    require_store(out, force, [data])
    mixed = module.mixtures(
        data, by=by, n=n, cells=cells, concentration=concentration, group=group, seed=seed,
        executor=_where(executor, workers),
    )  # fmt: skip
    write_anndata(out, mixed)
    say(f"Wrote {out}")


@app.command
def download(
    out: Annotated[Path, Parameter(help="The folder to fill: ACCESSION.h5ad, sample_metadata.csv and manifest.json.")],
    *,
    root: str | None = None,
    feature: str = "GeneFull_Ex50pAS",
    organism: str = "Homo_sapiens",
    tissue: Sequence[str] | None = None,
    perturbation: Sequence[str] | None = None,
    accessions: Sequence[str] | None = None,
    min_cells: int | None = None,
    max_cells: int | None = None,
    max_files: int | None = None,
    dry_run: bool = False,
    workers: int = 4,
    retries: int = 5,
) -> None:
    """Download samples of scBaseCount; a download that was killed continues where it stopped.

    Parameters
    ----------
    root
        The release: a gs://, s3:// or https:// address, or a folder laid out like one. The default is the release that
        the Arc Institute published in January 2026; it is public and needs no account.
    feature
        How reads were counted: Gene, GeneFull, GeneFull_Ex50pAS, GeneFull_ExonOverIntron or Velocyto.
    organism
        The organism, in full or in whole words ("mus").
    tissue
        Samples with any of these words in the column tissue.
    perturbation
        Samples with any of these words in the column perturbation.
    accessions
        These samples only (SRX, ERX or NRX numbers).
    min_cells
        Samples of at least so many cells.
    max_cells
        Samples of at most so many cells.
    max_files
        At most so many samples, in the order of their accessions.
    dry_run
        Print what would be downloaded, and download nothing.
    workers
        Files that are downloaded at the same time.
    retries
        Further tries when the store fails, with increasing waits.
    """
    from genevae.download import scbasecount

    table = scbasecount.download(
        out, root=root or scbasecount.ROOT, feature=feature, organism=organism, tissue=tissue or (),
        perturbation=perturbation or (), accessions=accessions or (), min_cells=min_cells, max_cells=max_cells,
        max_files=max_files, dry_run=dry_run, workers=workers, retries=retries,
    )  # fmt: skip
    say(table.to_string(index=False))


def _where(executor: str | None, n_threads: int) -> str | None:
    """Return the executor of a command: as it was named, or several threads of this process."""
    return executor if executor is not None else (f"threads:{n_threads}" if n_threads > 1 else None)
