"""`genevae latent`: the latent of some cells as pictures and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from cyclopts import Parameter
from rich import print as say

import genevae as gv
from genevae.cli.options import files_of, options_of, parameters, with_signature
from genevae.cli.task import paths
from genevae.data.genes import match_genes
from genevae.data.schema import Schema
from genevae.data.value_kind import probe
from genevae.errors import DataError, nearest, shorten
from genevae.evaluation.scale import log_scale
from genevae.io.atomic import replace_with, require_free, staging_folder
from genevae.io.formats import open_source
from genevae.io.source import MemorySource, sample_cells
from genevae.metrics.latent import dead_dimensions, latent_scores, shown_fields
from genevae.metrics.principal import Principal
from genevae.plotting.embedding import field_picture
from genevae.plotting.projections import MAPS, TITLES, has_umap, project_2d

__all__ = ["latent"]

NUMBERS = "numbers.csv"
PCS = "PCA of expression"


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
    source = sample_cells(whole, cells, seed)
    with staging_folder(out) as folder:
        draft = folder / out.name
        draft.mkdir()
        scores = _fill(draft, model, source, chosen, unlabelled, seed)
        replace_with(draft, out)
    some = f"{len(source):,} of {len(whole):,} cells, drawn with seed {seed}"
    say(scores.to_string(index=False, na_rep="", float_format=lambda x: f"{x:.3f}"))
    say(f"Wrote {out}: {', '.join(chosen)} of {some if len(source) < len(whole) else 'all cells'}")


def _chosen(maps: Sequence[str]) -> list[str]:
    for name in maps:
        if name not in MAPS:
            raise DataError(f"There is no map '{name}'. {nearest(name, MAPS)}")
    present = has_umap()
    if "umap" in maps and not present:
        raise DataError("The map umap needs umap-learn, which is not installed: pip install 'genevae[umap]'.")
    if not maps and not present:
        say("umap-learn is not installed (pip install 'genevae[umap]'): there will be no UMAP.")
    return list(dict.fromkeys(maps)) or [name for name in MAPS if name != "umap" or present]


def _fill(
    folder: Path, model: gv.Trained, source: MemorySource, maps: Sequence[str], unlabelled: bool, seed: int
) -> pd.DataFrame:
    """Write everything into a folder, and return the numbers."""
    adata = gv.embed(model, _without_labels(source, model.schema) if unlabelled else source)
    adata.obs = source.obs.copy()
    z = adata.obsm["X_genevae"]
    fields = shown_fields(adata.obs)
    for name in maps:
        adata.obsm[f"X_{name}"] = project_2d(name, z, seed)
        if fields:
            field_picture(adata.obsm[f"X_{name}"], fields, f"{TITLES[name]} of the latent", folder / f"{name}.png")
    adata.write_h5ad(folder / "latent.h5ad")
    x = log_scale(source.x_ng, probe(source))
    components = Principal.fit(x, z.shape[1], seed).embed(x)
    scores = latent_scores({"latent": z, PCS: components}, adata.obs, seed)
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


_latent.__name__ = _options.__name__ = "latent"
_RUN, _DATA, _OUT, _FORCE = paths(takes_data=True)
_FOLDER = _OUT.replace(annotation=Annotated[Path, Parameter(help="The folder to write.")])
_OWN = [_RUN, _DATA, _FOLDER, _FORCE, *(option for option, _ in options_of(_options, {}).values()), *parameters()]
latent = with_signature(_latent, _options, _OWN)
