"""What a guess gets, what it may check, and whether it worked, was answered, or neither."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import genevae as gv
from genevae.cli import COMMANDS, main

DATA = Path(os.environ.get("GENEVAE_DATA", "."))
FILE = "small.h5ad"
LEFT_OUT = {"adata", "cells", "data", "it", "model", "path"}
"""Names that exist, and lead nowhere alone."""


class Guess(NamedTuple):
    """What somebody typed, and whether the right answer to it is an error."""

    call: Callable[[Case], Any]
    is_mistake: bool


GUESSES: dict[str, list[Guess]] = {}
"""The guesses of each script."""


def guess(function: Callable[[Case], Any]) -> Callable[[Case], Any]:
    """Add something that should work."""
    GUESSES.setdefault(function.__module__.rpartition(".")[2], []).append(Guess(function, False))
    return function


def mistake(function: Callable[[Case], Any]) -> Callable[[Case], Any]:
    """Add something that no package could do: a name that is not there, or data that cannot be used in this way."""
    GUESSES.setdefault(function.__module__.rpartition(".")[2], []).append(Guess(function, True))
    return function


def _command(words: list[str]) -> None:
    """Run a command line; what it prints goes into two files."""
    for name, stream in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w") for stream in (1, 2))
    os.environ["COLUMNS"] = "200"
    main(words)


class CommandError(Exception):
    """A command that ended with an error; its message is what it printed."""


class Case:
    """What each guess gets: fresh data, a trained model, a run and a working folder of its own."""

    def __init__(self, adata: ad.AnnData, model: gv.Trained, folder: Path) -> None:
        self.gv, self.model, self.adata, self.path = gv, model, adata.copy(), FILE
        self.printed, self.words = "", [""]
        adata.write_h5ad(folder / FILE)

    @cached_property
    def run(self) -> str:
        """The folder of the model."""
        self.model.save("run")
        return "run"

    def is_model(self, found: Any) -> bool:
        """Whether something is a trained model."""
        return isinstance(found, gv.Trained)

    def latent(self, model: gv.Trained, adata: ad.AnnData) -> Any:
        """Return the latent of cells."""
        return emb(model.embed(adata), adata)

    def sh(self, *words: str, ok: bool = True, program: tuple[str, ...] | None = None) -> Any:
        """Run a command in a process of its own, which has the package loaded; or Python with these words."""
        self.words = [*map(str, words)]
        if program is None:
            child = get_context("fork").Process(target=_command, args=(self.words,))
            child.start()
            child.join()
            out, err = (Path(name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
            done = subprocess.CompletedProcess(self.words, child.exitcode, out, err)
        else:
            done = subprocess.run([sys.executable, *program, *self.words], capture_output=True, text=True, check=False)
        self.printed = f"{done.stdout}\n{done.stderr}"
        if ok and done.returncode:
            raise CommandError(self.printed)
        return done


def small() -> ad.AnnData:
    """Return 300 cells of Kang et al. (2018) × 200 genes, of four types and three donors."""
    adata = ad.read_h5ad(DATA / "kang_merged.h5ad")
    types, donors = ["CD4 T", "CD14+ Mono", "B", "NK"], ["1015", "101", "1256"]
    adata = adata[adata.obs["cell_type"].isin(types) & adata.obs["donor"].isin(donors)]
    adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, 300, replace=False))].copy()
    gene_g = np.sort(np.argsort(-np.log1p(adata.X.toarray()).var(0))[:200])
    adata = adata[:, gene_g].copy()
    adata.obs_names_make_unique()
    adata.obs = adata.obs.astype(str).astype("category")
    adata.layers["counts"] = adata.X.copy()
    adata.uns = {}
    return adata


def airway() -> ad.AnnData:
    """Return eight bulk samples × 150 genes, of the airway data."""
    adata = ad.read_h5ad(DATA / "bulk_airway_inmoose.h5ad")
    return adata[:, np.sort(np.argsort(-arr(adata).var(0))[:150])].copy()


def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return them as a table of counts, and the table of the samples."""
    adata = airway()
    table = pd.DataFrame(arr(adata).astype(int), index=adata.obs_names, columns=adata.var_names)
    return table, adata.obs.assign(dex=adata.obs["dex"] if "dex" in adata.obs else adata.obs.iloc[:, 0])


def arr(x: Any) -> Any:
    """Return numbers as an array."""
    x = x.X if isinstance(x, ad.AnnData) else x
    x = x.toarray() if sp.issparse(x) else x
    return np.asarray(x.select_dtypes("number") if isinstance(x, pd.DataFrame) else x)


def emb(x: Any, adata: Any = None, n: int | None = None, key: str | None = None) -> Any:
    """Return the embedding that came back, or that was put into obsm."""
    n = adata.n_obs if n is None else n
    found = [] if hasattr(x, "obsm") or x is None else [x]
    for each in (x, adata):
        obsm = getattr(each, "obsm", {})
        found += [obsm[key]] if key in obsm else [] if key else list(obsm.values())
    for each in map(arr, found):
        if each.ndim == 2 and each.shape[0] == n and 2 <= each.shape[1] < 200 and np.isfinite(each).all():
            return each.astype(float)
    raise AssertionError(f"no embedding of {n} rows in {type(x).__name__}")


def expr(x: Any, n: int | None = None, g: int | None = 200) -> Any:
    """Return expression, n × g."""
    x = arr(x).astype(float)
    assert x.ndim == 2
    assert n in (None, x.shape[0])
    assert g in (None, x.shape[1])
    assert np.isfinite(x).all()
    assert (x >= 0).all()
    assert x.sum() > 0
    return x


def table(x: Any, rows: int = 1, genes: Any = ()) -> pd.DataFrame:
    """Return a table with numbers, which names at least five of the genes."""
    assert isinstance(x, pd.DataFrame)
    assert len(x) >= rows
    assert len(x.select_dtypes("number").columns)
    named = {str(each) for column in (x.index, *(x[name] for name in x)) for each in column}
    assert not len(genes) or len(named & set(genes)) >= 5
    return x


def numbers(x: Any) -> list[float]:
    """Return the scores of a report, or the numbers of a mapping."""
    found = list(x.scores["value"]) if hasattr(x, "scores") else list(getattr(x, "values", list)())
    assert found
    return found


def words_of(texts: Any) -> set[str]:
    """Return the words of texts."""
    return {word for text in texts for word in re.findall(r"[A-Za-z_][\w-]*", str(text))}


def vocabulary(case: Case) -> set[str]:
    """Return the names that exist: of functions, methods, options, commands, columns and categories."""
    names = {*dir(gv), *dir(case.model), *dir(gv.settings), *dir(gv.metrics), *gv.RECIPES, *COMMANDS}
    for name in dir(gv):
        if callable(function := getattr(gv, name)):
            with contextlib.suppress(ValueError, TypeError):
                names |= set(inspect.signature(function).parameters)
    obs = case.adata.obs
    names |= {*obs, *case.adata.layers, FILE.partition(".")[0], "scanpy", "AnnData", "adata"}
    names |= words_of(value for column in obs for value in obs[column].unique())
    return names | {f"--{name.replace('_', '-')}" for name in names}


def leads_on(error: BaseException, case: Case, source: str) -> bool:
    """Whether an error is ours, and names something that exists and that the guess did not name."""
    is_command = isinstance(error, CommandError)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    is_ours = isinstance(error, gv.GenevaeError) or f"{os.sep}genevae{os.sep}" in last
    if is_command:
        is_ours = "Traceback" not in str(error)
    text = re.sub(r"(module|type object) '[\w.]+' has no attribute '\w+'", "", str(error))
    given = words_of([source]) if not is_command else words_of(case.words)
    new = {word.strip("-") for word in words_of([text]) & vocabulary(case)}
    return is_ours and bool(new - {word.strip("-") for word in given} - LEFT_OUT)


def outcomes(script: str, model: gv.Trained, adata: ad.AnnData) -> Iterator[tuple[str, bool, str, str]]:
    """Try each guess of a script: yield its name, whether it is a mistake, what happened, and the message."""
    home = Path.cwd()
    for each in GUESSES[script]:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.chdir(folder)
            case, found, message = Case(adata, model, Path(folder)), "works", ""
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    each.call(case)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a guess ends in
                found = "answered" if leads_on(error, case, inspect.getsource(each.call)) else "neither"
                message = f"{type(error).__name__}: {' '.join(str(error).split())}"
            finally:
                os.chdir(home)
                shutil.rmtree(Path(folder, "run"), ignore_errors=True)
        yield each.call.__name__, each.is_mistake, found, message
