"""`genevae data`: look at data, convert them, and pass over them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from anndata import AnnData
from cyclopts import App, Parameter
from rich import print as say
from rich.console import Console

from genevae.cli.inspect import inspect as inspect_command
from genevae.cli.options import files_of, options_of, parameters, with_signature
from genevae.cli.table_output import require_table, write_table
from genevae.data.schema import obs_column
from genevae.download.scbasecount import download as fetch
from genevae.io.atomic import require_free
from genevae.io.formats import Source, in_memory_if_fits, open_source
from genevae.io.gene_lists import write_gene_list
from genevae.io.tables.transpose import transpose
from genevae.io.write.anndata import require_store, write_anndata
from genevae.preprocessing.convert import convert
from genevae.preprocessing.hvg import highly_variable
from genevae.preprocessing.obs_summary import field_specifications
from genevae.preprocessing.pseudobulk import mixtures, pseudobulk

__all__ = ["app"]

_POSITIONAL, _KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY


def _parameter(name: str, kind: Any, meaning: str, **given: Any) -> inspect.Parameter:
    place = _POSITIONAL if name == "data" else _KEYWORD
    return inspect.Parameter(name, place, annotation=Annotated[kind, Parameter(help=meaning)], **given)


DATA = _parameter("data", str, "A file, a folder, or a pattern of many files.")
FORCE = _parameter("force", bool, "Replace what is there.", default=False)
WORKERS = _parameter("workers", int, "Threads that read and add up.", default=1)


def _command(like: Callable[..., Any], run: Callable[..., None], out: str, extra: tuple[Any, ...] = ()) -> Any:
    """Make a command of a function of data: its own options, those of reading, and where to write."""
    options = options_of(like, {}, leave_out=["layer", "executor", "overwrite"])

    own = [parameter for parameter, _ in options.values()]
    defaults = {parameter.name: parameter.default for parameter in (*own, *extra)}

    def command(data: str, *, out: Path, force: bool = False, **given: Any) -> None:
        files = files_of(data, given)
        words = {**defaults, **{name: options[name][1](w) if name in options else w for name, w in given.items()}}
        run(files, out, force, **words)
        say(f"Wrote {out}")

    return with_signature(command, like, [DATA, _parameter("out", Path, out), FORCE, *own, *extra, *parameters()])


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    if workers <= 1:
        yield None
        return
    with ThreadPoolExecutor(workers) as executor:
        yield executor


def hvg(
    data: Source | Any,
    *,
    n_genes: int = 2000,
    flavor: Literal["seurat_v3", "seurat"] = "seurat_v3",
    batch: str | None = None,
) -> None:
    """Choose the genes that vary most, as scanpy does, and write the list that fit --genes takes.

    Parameters
    ----------
    data
        The cells.
    n_genes
        How many genes.
    flavor
        seurat_v3 for counts; seurat for log-normalised values.
    batch
        The obs column of the technical batch, within which genes are ranked.
    """


def _hvg(
    files: Any, out: Path, force: bool, *, n_genes: int, flavor: Any, batch: str | None = None, workers: int
) -> None:
    require_free(out, force, [])
    source = in_memory_if_fits(open_source(files), files.keep)
    labels = None if batch is None else obs_column(source.obs, batch)
    with _pool(workers) as executor:
        genes = highly_variable(source, n_genes, labels, flavor=flavor, executor=executor)
    write_gene_list(genes, out, flavor=flavor, source=source.name)


def _convert(files: Any, out: Path, force: bool, **words: Any) -> None:
    convert(files, out, overwrite=force, **words)


def _summing(function: Callable[..., AnnData]) -> Callable[..., None]:
    def run(files: Any, out: Path, force: bool, *, workers: int, **words: Any) -> None:
        require_store(out, force)
        with _pool(workers) as executor:
            write_anndata(out, function(files, executor=executor, **words))

    return run


def fields(data: str, *, out: Path | None = None, force: bool = False) -> None:
    """Say what each obs column is: its levels, the share that is there, and whether it can be a condition.

    Parameters
    ----------
    data
        A file, a folder, or a pattern of many files.
    out
        A table to write, .csv or .tsv; shown by default.
    force
        Replace what is there.
    """


def _fields(data: str, *, out: Path | None = None, force: bool = False, **given: Any) -> None:
    if out is not None:
        require_table(out, force)
    table = field_specifications(open_source(files_of(data, given)).obs).set_index("field")
    if out is None:
        Console(soft_wrap=True, highlight=False).print(table.to_string(), markup=False)
        return
    write_table(table, out, "field")
    say(f"Wrote {out}")


def _transpose(data: Path, *, out: Path, force: bool = False) -> None:
    """Turn a table of any size: its rows become columns, its texts stay as they are.

    Parameters
    ----------
    data
        A .csv or .tsv table, plain, .gz or .zst.
    out
        The table to write; its name says the format.
    force
        Replace what is there.
    """
    transpose(data, out, overwrite=force)
    say(f"Wrote {out}")


def _download() -> Any:
    options = options_of(fetch, {}, leave_out=["progress"])

    def command(out: Path, **given: Any) -> None:
        table = fetch(out, **{name: options[name][1](value) for name, value in given.items()})
        Console(soft_wrap=True, highlight=False).print(table.to_string(index=False), markup=False)

    folder = inspect.Parameter("out", _POSITIONAL, annotation=Annotated[Path, Parameter(help="The folder to fill.")])
    return with_signature(command, fetch, [folder, *(parameter for parameter, _ in options.values())])


app = App(name="data", help="Look at data, convert them, and pass over them, whatever their size.")
app.command(inspect_command)
app.command(
    with_signature(_fields, fields, [*inspect.signature(fields, eval_str=True).parameters.values(), *parameters()])
)
app.command(_command(convert, _convert, "A store (.h5ad, .zarr), or a folder to fill with files."))
app.command(_transpose, name="transpose")
app.command(_command(hvg, _hvg, "The list to write: text, one gene per line.", (WORKERS,)))
app.command(_command(pseudobulk, _summing(pseudobulk), "The store to write: .h5ad or .zarr.", (WORKERS,)))
app.command(_command(mixtures, _summing(mixtures), "The store to write: .h5ad or .zarr.", (WORKERS,)))
app.command(_download())
