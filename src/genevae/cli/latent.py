"""`genevae latent`: the latent of some cells as pictures and numbers."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from cyclopts import Parameter
from numpy.typing import NDArray
from rich import print as say
from scipy import sparse

import genevae as gv
from genevae.cli.reading import files_of, parameters
from genevae.cli.task import paths
from genevae.cli.words import options_of, with_signature
from genevae.data.genes import match_genes
from genevae.data.inspect import probe
from genevae.data.kind import Kind
from genevae.data.schema import Schema
from genevae.data.sources import Source, open_source
from genevae.data.sources.source import MemorySource
from genevae.disk import drafted, put_in_place, require_free
from genevae.errors import DataError, nearest, shorten
from genevae.evaluation.field_pictures import field_picture
from genevae.evaluation.latent import categories_of, dead_dimensions, latent_scores

__all__ = ["latent"]

NUMBERS = "numbers.csv"
PCS = "PCA of expression"
LINEAR = {Kind.COUNTS, Kind.FRACTIONAL, Kind.NORMALISED}


def _options(*, maps: Sequence[str] = (), unlabelled: bool = False, cells: int = 10_000, seed: int = 0) -> None:
    """Draw where cells lie in the latent, and score how their fields lie apart in it, beside plain components.

    A folder: latent.h5ad with X_genevae, X_pca, X_tsne and X_umap; for each map a picture with a panel per field of
    numbers or of 2 to 50 categories; and numbers.csv.

    Parameters
    ----------
    data
        Cells with the model's genes and conditions.
    maps
        Which maps to draw: pca, tsne, umap; by default all, umap where umap-learn is installed.
    unlabelled
        Embed the cells as if none of their conditions were known, which some models are trained to do without; the
        latent then holds what the conditions would have told.
    cells
        Cells to draw at random, where there are more.
    seed
        Of the cells and the maps.
    """


def _latent(
    run: Path, data: str, *, out: Path, force: bool = False,
    maps: Sequence[str] = (), unlabelled: bool = False, cells: int = 10_000, seed: int = 0, **given: Any,
) -> None:  # fmt: skip
    require_free(out, force, [NUMBERS])
    chosen = _chosen(maps)
    model = gv.load(run)
    whole = match_genes(open_source(files_of(data, given)), model.schema.genes, model.schema.missing)
    source = _drawn(whole, cells, seed)
    with drafted(out) as folder:
        draft = folder / out.name
        draft.mkdir()
        scores = _fill(draft, model, source, chosen, unlabelled, seed)
        put_in_place(draft, out)
    drawn = f"{len(source):,} of {len(whole):,} cells, drawn with seed {seed}"
    say(scores.to_string(index=False, na_rep="", float_format=lambda x: f"{x:.3f}"))
    say(f"Wrote {out}: {', '.join(chosen)} of {drawn if len(source) < len(whole) else 'all cells'}")


def _chosen(maps: Sequence[str]) -> list[str]:
    for name in maps:
        if name not in MAPS:
            raise DataError(f"There is no map '{name}'. {nearest(name, MAPS)}")
    present = importlib.util.find_spec("umap") is not None
    if "umap" in maps and not present:
        raise DataError("The map umap needs umap-learn, which is not installed: pip install 'genevae[umap]'.")
    if not maps and not present:
        say("umap-learn is not installed (pip install 'genevae[umap]'): there will be no UMAP.")
    return list(dict.fromkeys(maps)) or [name for name in MAPS if name != "umap" or present]


def _drawn(source: Source, n: int, seed: int) -> MemorySource:
    """Read some cells, drawn at random where there are more."""
    if n < 3:
        raise DataError(f"cells must be 3 or more, not {n}.")
    rows = np.arange(len(source))
    if len(rows) > n:
        rows = np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))
    panels = source.panels and replace(source.panels, panel_n=source.panels.panel_n[rows])
    return MemorySource(source.name, source.read(rows), source.genes, source.obs.iloc[rows], panels=panels)


def _fill(
    folder: Path, model: gv.Trained, source: MemorySource, maps: Sequence[str], unlabelled: bool, seed: int
) -> pd.DataFrame:
    """Write everything into a folder, and return the numbers."""
    adata = gv.embed(model, _without_labels(source, model.schema) if unlabelled else source)
    adata.obs = source.obs.copy()
    z = adata.obsm["X_genevae"]
    fields = _fields(adata.obs)
    for name in maps:
        adata.obsm[f"X_{name}"] = np.asarray(MAPS[name](z, seed), dtype=np.float32)
        if fields:
            field_picture(adata.obsm[f"X_{name}"], fields, f"{TITLES[name]} of the latent", folder / f"{name}.png")
    adata.write_h5ad(folder / "latent.h5ad")
    scores = latent_scores({"latent": z, PCS: _components(source, z.shape[1], seed)}, adata.obs, seed)
    dead = {"field": "", "score": f"dead dimensions of {z.shape[1]}", "latent": float(dead_dimensions(z))}
    scores = pd.concat([pd.DataFrame([dead], columns=scores.columns), scores.astype({"baseline": float})])
    scores.to_csv(folder / NUMBERS, index=False)
    return scores


def _without_labels(source: MemorySource, schema: Schema) -> MemorySource:
    if certain := set(schema.n_categories) - set(schema.unknown):
        raise DataError(
            f"This model must be told {shorten(sorted(certain))} of every cell. Leave out --unlabelled, or train one "
            "that can do without, with a recipe such as conditional or with --setting category_dropout=0.1."
        )
    return replace(source, obs=source.obs.drop(columns=list(schema.unknown), errors="ignore"))


def _fields(obs: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Return the fields that a picture can show: 2 to 50 categories, or numbers that vary."""
    found: dict[str, NDArray[Any]] = {}
    for name in obs:
        if (labels := categories_of(obs[name])) is not None:
            found[str(name)] = labels
        elif pd.api.types.is_numeric_dtype(obs[name]) and _varies(obs[name]):
            found[str(name)] = obs[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _varies(column: pd.Series[Any]) -> bool:
    known = column.dropna().to_numpy()
    return len(known) > 0 and bool((known != known[0]).any())


def _components(source: MemorySource, n: int, seed: int) -> NDArray[np.float32]:
    """Return principal components of log-normalised expression."""
    from sklearn.decomposition import PCA

    x = source.x_ng
    if probe(source) in LINEAR:
        size_n1 = np.maximum(np.asarray(x.sum(1), dtype=np.float64).reshape(-1, 1), 1e-6)
        x = sparse.csr_matrix(x).multiply(1e4 / size_n1).tocsr().log1p().astype(np.float32)
    n = min(n, min(x.shape) - 1)
    return np.asarray(PCA(n, svd_solver="arpack", random_state=seed).fit_transform(x))


def _pca(z: NDArray[Any], seed: int) -> NDArray[Any]:
    from sklearn.decomposition import PCA

    found = PCA(min(2, *z.shape), random_state=seed).fit_transform(z)
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def _tsne(z: NDArray[Any], seed: int) -> NDArray[Any]:
    from sklearn.manifold import TSNE

    return np.asarray(TSNE(perplexity=min(30.0, (len(z) - 1) / 3), random_state=seed).fit_transform(z))


def _umap(z: NDArray[Any], seed: int) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of parts that are not used here
        umap = importlib.import_module("umap").UMAP(n_neighbors=min(15, len(z) - 1), random_state=seed, n_jobs=1)
        return np.asarray(umap.fit_transform(z))


MAPS: dict[str, Callable[[NDArray[Any], int], NDArray[Any]]] = {"pca": _pca, "tsne": _tsne, "umap": _umap}
TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}

_latent.__name__ = _options.__name__ = "latent"
_RUN, _DATA, _OUT, _FORCE = paths(takes_data=True)
_FOLDER = _OUT.replace(annotation=Annotated[Path, Parameter(help="The folder to write.")])
_OWN = [_RUN, _DATA, _FOLDER, _FORCE, *(option for option, _ in options_of(_options, {}).values()), *parameters()]
latent = with_signature(_latent, _options, _OWN)
