"""How much of the technical batch is left in the latent, and how much of the cell type.

1,200 blood cells from three 10x chemistries (pbmc_3tech_symphony, 1,767 genes). Independent classifiers, which had no
part in training, read the batch from the posterior means by five-fold cross-validation: logistic regression, and the 15
nearest neighbours; chance is the share of the commonest batch. "mixing" is the effective number of batches among a
cell's 30 neighbours, from 1 to 3, and "ceiling" what it would be if neighbours were drawn from the cell's own type at
random. Beside it the accuracy of the cell type by neighbours, which a correction should leave as it was.

Baselines: PCA of log-normalised counts (10 components), nb without the batch, nb with it.
Target: the adversary brings leakage nearer to chance than nb with the batch does, at the same accuracy of the type.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from real import folder
from sklearn.decomposition import PCA

import genevae as gv
from genevae.metrics.leakage import chance, local_mixing, readable

HEADER = ("batch, logistic", "batch, neighbours", "mixing", "type, neighbours", "type, logistic")


def main() -> None:
    """Print one row for each latent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--strengths", nargs="*", type=float, default=[30.0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    adata = gv.read(folder() / "pbmc_3tech_symphony.h5ad")
    batch_n, type_n = adata.obs["batch"].to_numpy(), adata.obs["cell_type_broad"].to_numpy()
    usual = np.isin(type_n, [name for name in np.unique(type_n) if (type_n == name).sum() >= 20])
    recipes: dict[str, dict] = {
        "nb without batch": {"recipe": "nb"},
        "nb": {"recipe": "nb", "batch": "batch"},
        "nb, blind posterior": {"recipe": "nb", "batch": "batch", "setting": {"encode_condition": False}},
    }
    for strength in arguments.strengths:
        setting = {"adversary_strength": strength}
        told = {"recipe": "adversarial", "batch": "batch", "setting": setting}
        recipes[f"adversarial, {strength:g}"] = told
        recipes[f"same, blind posterior, {strength:g}"] = {**told, "setting": {**setting, "encode_condition": False}}
    print(f"{'latent':<30}" + "".join(f"{name:>19}" for name in HEADER))
    show("chance / ceiling", [chance(batch_n), chance(batch_n), ceiling(batch_n, type_n), *[chance(type_n[usual])] * 2])
    show("PCA", scores(pca(adata), batch_n, type_n, usual))
    for name, words in recipes.items():
        found = []
        for seed in arguments.seeds:
            model = gv.fit(adata, **words, epochs=arguments.epochs, seed=seed, progress=False)
            found.append(scores(gv.embed(model, adata).obsm["X_genevae"], batch_n, type_n, usual))
            if "validation_adversary_accuracy" in model.history:
                last = model.history.iloc[model.facts["best_epoch"] - 1]
                found[-1].append(last["validation_adversary_accuracy"])
        show(name, np.mean(found, 0))


def scores(z_nk: NDArray, batch_n: NDArray, type_n: NDArray, usual: NDArray[np.bool_]) -> list[float]:
    """Read the batch from all cells, and the type from those of types with 20 cells at least."""
    return [
        readable(z_nk, batch_n, "logistic"),
        readable(z_nk, batch_n, "neighbours"),
        local_mixing(z_nk, batch_n),
        readable(z_nk[usual], type_n[usual], "neighbours"),
        readable(z_nk[usual], type_n[usual], "logistic"),
    ]


def pca(adata: AnnData) -> NDArray:
    """Return ten principal components of log-normalised counts."""
    x_ng = adata.X.toarray()
    return PCA(10, random_state=0).fit_transform(np.log1p(1e4 * x_ng / x_ng.sum(1, keepdims=True)))


def ceiling(batch_n: NDArray, type_n: NDArray) -> float:
    """Return the mixing of neighbours that are drawn at random from the cell's own type."""
    shares = {kind: np.unique(batch_n[type_n == kind], return_counts=True)[1] for kind in np.unique(type_n)}
    return float(np.mean([1 / np.square(shares[kind] / shares[kind].sum()).sum() for kind in type_n]))


def show(name: str, numbers: list[float] | NDArray) -> None:
    """Print a row; a sixth number is the adversary's own accuracy on validation cells."""
    row = f"{name:<30}" + "".join(f"{number:>19.3f}" for number in numbers[:5])
    print(row + (f"   (the adversary's own accuracy {numbers[5]:.3f})" if len(numbers) > 5 else ""), flush=True)


if __name__ == "__main__":
    main()
