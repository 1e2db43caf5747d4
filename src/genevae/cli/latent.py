"""`genevae latent`: the latent of some cells as pictures and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import genevae as gv
from genevae.cli.options import Data, Force, Run, say
from genevae.errors import DataError, nearest, shorten
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.overwrite import require_free

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from genevae.data.schema import Schema
    from genevae.io.source import MemorySource

__all__ = ["latent"]

NUMBERS = "numbers.csv"
PCS = "PCA of expression"


def latent(
    run: Run,
    data: Data,
    *,
    out: Path,
    force: Force = False,
    maps: Sequence[str] | None = None,
    unlabelled: bool = False,
    dimensions: Literal[2, 3] = 2,
    cells: int = 10_000,
    seed: int = 0,
) -> None:
    """Draw maps of the latent, and score how well fields separate in it, beside principal components.

    The folder has latent.h5ad with X_genevae, X_pca, X_tsne and X_umap, and the same as latent.csv and maps.csv; a
    picture for each map, with a panel per numeric field and per field of 2 to 50 categories; and numbers.csv.

    Parameters
    ----------
    out
        The folder to write.
    maps
        Which maps to draw: pca, tsne, umap; by default all, umap where umap-learn is installed.
    unlabelled
        Embed the cells as if none of their conditions were known, where the model was trained for that.
    dimensions
        Of the maps.
    cells
        Cells to sample, where there are more.
    seed
        Of the sample and the maps.
    """
    from genevae.data.genes import match_genes
    from genevae.io.formats import open_source
    from genevae.io.source import sample_cells
    from genevae.tasks.inference import lacks_genes

    require_free(out, force, [run, data])
    chosen = _chosen(maps or ())
    model = gv.load(run)
    everything = match_genes(open_source(data), model.schema.genes, model.schema.missing or lacks_genes(data))
    source = sample_cells(everything, cells, seed)
    with staging_folder(out) as folder:
        draft = folder / out.name
        draft.mkdir()
        scores = _fill(draft, model, source, chosen, unlabelled, seed, dimensions)
        replace_with(draft, out)
    sampled = f"{len(source):,} of {len(everything):,} cells, sampled with seed {seed}"
    say(scores.to_string(index=False, na_rep="", float_format=lambda x: f"{x:.3f}"))
    say(f"Wrote {out}: {', '.join(chosen)} of {sampled if len(source) < len(everything) else 'all cells'}")


def _chosen(maps: Sequence[str]) -> list[str]:
    from genevae.plotting.projections import MAPS, has_umap

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
    folder: Path,
    model: gv.Trained,
    source: MemorySource,
    maps: Sequence[str],
    unlabelled: bool,
    seed: int,
    dimensions: int,
) -> pd.DataFrame:
    """Write everything into a folder, and return the numbers."""
    import pandas as pd

    from genevae.data.value_kind import probe
    from genevae.evaluation.scale import log_scale
    from genevae.io.write.anndata import fill_anndata
    from genevae.metrics.latent import dead_dimensions, latent_scores, shown_fields
    from genevae.metrics.principal import Principal
    from genevae.plotting.embedding import field_picture
    from genevae.plotting.projections import TITLES, project_2d

    adata = gv.embed(model, _without_labels(source, model.schema) if unlabelled else source)
    adata.obs = source.obs.copy()
    z = adata.obsm["X_genevae"]
    fields = shown_fields(adata.obs)
    for name in maps:
        adata.obsm[f"X_{name}"] = project_2d(name, z, seed, n_dimensions=dimensions)
        if fields:
            field_picture(adata.obsm[f"X_{name}"], fields, f"{TITLES[name]} of the latent", folder / f"{name}.png")
    fill_anndata(folder / "latent.h5ad", adata)
    _write_csv(adata.obs.index, {"latent": z}, folder / "latent.csv")
    _write_csv(adata.obs.index, {name: adata.obsm[f"X_{name}"] for name in maps}, folder / "maps.csv")
    x = log_scale(source.x_ng, probe(source))
    components = Principal.fit(x, z.shape[1], seed).embed(x)
    scores = latent_scores({"latent": z, PCS: components}, adata.obs, seed)
    dead = {"field": "", "score": f"dead dimensions of {z.shape[1]}", "latent": float(dead_dimensions(z))}
    first = pd.DataFrame([dead], columns=scores.columns)
    scores = pd.concat([first, scores.astype({"baseline": float})]) if len(scores) else first
    scores.to_csv(folder / NUMBERS, index=False)
    return scores


def _write_csv(cells: pd.Index[str], arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write arrays of one row per cell as one table."""
    import pandas as pd

    columns = {f"{name}_{k + 1}": x[:, k] for name, x in arrays.items() for k in range(x.shape[1])}
    pd.DataFrame(columns, index=cells).to_csv(path, index_label="cell")


def _without_labels(source: MemorySource, schema: Schema) -> MemorySource:
    if certain := set(schema.n_categories) - set(schema.unknown):
        raise DataError(
            f"This model needs {shorten(sorted(certain))} of every cell. Leave out --unlabelled, or train a model that "
            "accepts unknown labels, with a recipe such as conditional or with --setting category_dropout=0.1."
        )
    return replace(source, obs=source.obs.drop(columns=list(schema.unknown), errors="ignore"))
