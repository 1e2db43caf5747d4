"""What people come from scvi-tools for, beside scvi-tools and a simple baseline, on real data.

``python -m benchmarks.peers --only map`` prints the rows of one part of the table in ``docs/reference/peers.md``. It
needs the extra ``bench``, and the data sets in the folder ``GENEVAE_DATA``.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import genevae as gv

SEED, N_GENES, N_NEIGHBOURS = 0, 2000, 15
Row = dict[str, Any]


def data(name: str) -> ad.AnnData:
    """Open a data set."""
    return ad.read_h5ad(Path(os.environ["GENEVAE_DATA"]) / f"{name}.h5ad")


def logged(adata: ad.AnnData) -> np.ndarray:
    """Return log(1 + counts per 10,000)."""
    x_ng = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    return np.log1p(1e4 * x_ng / np.maximum(x_ng.sum(1, keepdims=True), 1))


def mapping() -> Iterator[Row]:
    """Map one technology to two others, and one batch to four: accuracy of labels, scIB of all cells, seconds."""
    for name, label, query in (
        ("pbmc_3tech_symphony", "cell_type_broad", "5p"),
        ("mixology_celllines", "cell_line", "sc_dropseq"),
    ):
        adata = data(name)
        adata.obs["label"], adata.obs["batch"] = adata.obs[label].astype(str), adata.obs["batch"].astype(str)
        is_query = (adata.obs["batch"] == query).to_numpy()
        known, new = adata[~is_query].copy(), adata[is_query].copy()
        genes = list(gv.highly_variable(known, N_GENES)) if adata.n_vars > N_GENES else list(adata.var_names)
        known, new = known[:, genes].copy(), new[:, genes].copy()
        kept = np.sort(np.random.default_rng(SEED).permutation(len(genes))[: len(genes) // 2])
        half = new[:, kept].copy()
        plain = PCA(30, random_state=SEED).fit_transform(logged(ad.concat([known, new])))
        for method in (_map_ours, _map_scvi, _map_pca):
            started = time.perf_counter()
            place, mapper = method(known)
            fitted = time.perf_counter()
            labels, z_nk = mapper(new)
            mapped = time.perf_counter()
            few, _ = mapper(half)
            scores = gv.metrics.integration_scores(
                np.concatenate([place(), z_nk]),
                np.concatenate([known.obs["label"], new.obs["label"]]),
                np.concatenate([known.obs["batch"], new.obs["batch"]]),
                plain,
            )
            truth = new.obs["label"].to_numpy()
            yield {
                "data": name, "method": method.__doc__, "accuracy": np.mean(labels == truth),
                "accuracy, half of the genes": np.mean(few == truth), "scIB total": scores["Total"],
                "seconds to train": fitted - started, "seconds to map": mapped - fitted,
            }  # fmt: skip


Mapper = Callable[[ad.AnnData], tuple[np.ndarray, np.ndarray]]


def _map_ours(known: ad.AnnData) -> tuple[Callable[[], np.ndarray], Mapper]:
    """genevae"""  # noqa: D400, D403 - the name in the table
    model = gv.fit(
        known, "adversarial", batch="batch", condition="label", setting={"category_dropout": 0.1}, epochs=60, folds=0
    )

    def mapped(query: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
        found = gv.map_query(model, query, threshold=0.0, unknown_above=1.0).query
        return found.obs["label_predicted"].to_numpy(), np.asarray(found.obsm["X_genevae"])

    return lambda: np.asarray(gv.embed(model, known).obsm["X_genevae"]), mapped


def _map_scvi(known: ad.AnnData) -> tuple[Callable[[], np.ndarray], Mapper]:
    """scVI with the surgery of scArches, and neighbours"""  # noqa: D400, D403 - the name in the table
    from scvi.model import SCVI

    known = known.copy()
    SCVI.setup_anndata(known, batch_key="batch")
    model = SCVI(
        known, n_layers=2, use_layer_norm="both", use_batch_norm="none", encode_covariates=True, dropout_rate=0.2
    )
    model.train(max_epochs=200, early_stopping=True)
    z_nk = model.get_latent_representation()

    def mapped(query: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
        query = query.copy()
        SCVI.prepare_query_anndata(query, model)
        surgery = SCVI.load_query_data(query, model)
        surgery.train(max_epochs=200, plan_kwargs={"weight_decay": 0.0})
        place = surgery.get_latent_representation()
        return _nearest(z_nk, known, place), place

    return lambda: z_nk, mapped


def _map_pca(known: ad.AnnData) -> tuple[Callable[[], np.ndarray], Mapper]:
    """PCA and neighbours"""  # noqa: D400 - the name in the table
    components = PCA(30, random_state=SEED).fit(logged(known))
    z_nk = components.transform(logged(known))

    def mapped(query: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
        x_ng = pd.DataFrame(logged(query), columns=query.var_names)
        place = components.transform(x_ng.reindex(columns=known.var_names, fill_value=0.0).to_numpy())
        return _nearest(z_nk, known, place), place

    return lambda: z_nk, mapped


def _nearest(z_nk: np.ndarray, known: ad.AnnData, place: np.ndarray) -> np.ndarray:
    """Return the commonest label among the nearest cells."""
    return np.asarray(KNeighborsClassifier(N_NEIGHBOURS).fit(z_nk, known.obs["label"].to_numpy()).predict(place))


PARTS: dict[str, Callable[[], Iterator[Row]]] = {"map": mapping}


def main() -> None:
    """Print the rows of a part, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part of the table; by default all")
    only = parser.parse_args().only
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    gv.settings.progress = False
    for name, rows in PARTS.items():
        if only in (None, name):
            for number, row in enumerate(rows()):
                if not number:
                    print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
                print(
                    "| " + " | ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()) + " |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
