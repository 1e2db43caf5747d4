"""What is lost where a query lacks genes, its batch or its labels: accuracy of nearest neighbours in the latent.

With ``dropout`` as argument: whether leaving out batches in training pays, on cells of a new donor and of the others.

``kang_merged``, 1,000 genes: donor 101 is the query, and the others train. Its cells get the type of the 15 nearest
training cells in the latent of ``nb``, with and without the donor as technical batch, whose category of the query is
new. Genes are left out at random; they are taken as missing (their expected expression) or as zeros.
"""

from __future__ import annotations

import sys
import warnings
from unittest import mock

import anndata as ad
import numpy as np
from real import kang
from sklearn.neighbors import KNeighborsClassifier

import genevae as gv

SHARES = (0.0, 0.1, 0.3, 0.5, 0.7)
QUERY, N_CELLS, EPOCHS = "101", 4000, 30


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore", gv.GenevaeWarning)
    gv.settings.progress = False
    rng = np.random.default_rng(0)
    adata = kang()
    adata.obs_names_make_unique()
    adata = adata[np.sort(rng.choice(adata.n_obs, N_CELLS, replace=False))].copy()
    adata.obs["donor"] = adata.obs["donor"].astype(str)
    is_query = (adata.obs["donor"] == QUERY).to_numpy()
    train, query = adata[~is_query].copy(), adata[is_query].copy()
    print("model | missing genes | expected expression | zeros")
    for batch in (None, "donor"):
        model = gv.fit(train, "nb", genes=1000, epochs=EPOCHS, batch=batch, folds=0)
        neighbours = KNeighborsClassifier(15).fit(latent(model, train), train.obs["cell_type"])
        for share in SHARES:
            kept = np.sort(rng.permutation(adata.n_vars)[: round(adata.n_vars * (1 - share))])
            some = query[:, kept].copy()
            found = [accuracy(neighbours, model, some)]
            with mock.patch("genevae.tasks.inference.with_expected_genes", lambda _, cells: cells):
                found.append(accuracy(neighbours, model, some))
            print(f"nb{', batch=donor' * bool(batch)} | {share:.0%} | {found[0]:.3f} | {found[1]:.3f}", flush=True)


def dropout() -> None:
    """Print accuracy and bound of a new donor, and of held-out cells of the others, with and without batch dropout."""
    warnings.simplefilter("ignore", gv.GenevaeWarning)
    gv.settings.progress = False
    rng = np.random.default_rng(0)
    adata = kang()
    adata.obs_names_make_unique()
    adata.obs["donor"] = adata.obs["donor"].astype(str)
    adata = adata[adata.obs["donor"] != "unknown"].copy()
    adata = adata[np.sort(rng.choice(adata.n_obs, min(N_CELLS, adata.n_obs), replace=False))].copy()
    is_query = (adata.obs["donor"] == QUERY).to_numpy()
    is_test = ~is_query & (rng.random(adata.n_obs) < 0.2)
    train, test, query = (adata[rows].copy() for rows in (~is_query & ~is_test, is_test, is_query))
    print("batch_dropout | accuracy, bound of held-out cells of known donors | of a new donor")
    for seed in range(4):
        for share in (0.0, 0.1):
            given = {"epochs": EPOCHS, "seed": seed, "setting": {"batch_dropout": share}}
            model = gv.fit(train, "nb", genes=1000, batch="donor", folds=0, **given)
            neighbours = KNeighborsClassifier(15).fit(latent(model, train), train.obs["cell_type"])
            found = []
            for cells in (test, query):
                some = cells.copy()
                if share == 0 and cells is query:
                    some.obs["donor"] = train.obs["donor"].value_counts().index[0]
                found.append(f"{accuracy(neighbours, model, cells):.4f}, {model.get_marginal_ll(some, n_draws=50):.2f}")
            print(f"{share} | {' | '.join(found)}", flush=True)


def latent(model: gv.Trained, adata: ad.AnnData) -> np.ndarray:
    """Return the means of the latent."""
    return np.asarray(model.embed(adata).obsm["X_genevae"])


def accuracy(neighbours: KNeighborsClassifier, model: gv.Trained, query: ad.AnnData) -> float:
    """Return the share of the cells whose type is that of their nearest training cells."""
    return float((neighbours.predict(latent(model, query)) == query.obs["cell_type"]).mean())


if __name__ == "__main__":
    dropout() if sys.argv[1:] == ["dropout"] else main()
