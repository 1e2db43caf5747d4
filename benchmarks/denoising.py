"""Denoising, judged by molecules that were hidden (molecular cross-validation).

Every count of Kang et al. 2018 (1,500 cells, 1,000 highly variable genes) is split at random: nine in ten of the
molecules train each method and are denoised, and one in ten judges. The judge's mean in a cell and gene is a ninth of
the expected count that a method gives. Printed: the Poisson deviance per entry × 1,000, 2·(x·log(x/μ) − x + μ), zero
for a mean that is its count; its gain over the gene mean in per cent; and the mean squared error (x − μ)² × 1,000,
which the largest counts decide. (Errors of logarithms would not do: it is not the mean that makes them small.)

Beside the models: the noisy counts as they are, the share of each gene over all cells times the cell's size, principal
components of log(1 + counts per 10,000) taken back to counts (5 to 50: the best by the judge's own deviance is starred,
which flatters it), and the mean of the 5 to 50 nearest neighbours in 20 components (starred likewise).

Target: the models beat every baseline by deviance.

Batson, Royer and Webber, bioRxiv 786269 (2019).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from real import kang
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import genevae as gv
from genevae.io.formats import open_source
from genevae.metrics.denoising import poisson_deviance, thin
from genevae.preprocessing.hvg import highly_variable

Means = NDArray[np.float64]
SHARE = 0.9
TARGET = 1e4
LEAST = 1e-4
"""No mean is taken below this share of its gene's, so that one wrong zero does not decide."""


def main() -> None:
    """Print one row for each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--recipes", nargs="*", default=["nb", "zinb", "poisson"])
    parser.add_argument("--cells", type=int, default=1500)
    parser.add_argument("--genes", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    adata = subset(arguments.cells, arguments.genes)
    seen, hidden = thin(sparse.csr_matrix(adata.X), SHARE, seed=0)
    told = baselines(seen)
    for name in arguments.recipes:
        part = AnnData(seen, adata.obs, adata.var)
        model = gv.fit(part, recipe=name, epochs=arguments.epochs, progress=False)
        told[name] = np.asarray(gv.denoise(model, part).X, dtype=np.float64)
    odds = (1 - SHARE) / SHARE
    floor_ng = LEAST * told["gene mean"] + 1e-8
    found = {name: judge(hidden, odds * np.maximum(mean_ng, floor_ng)) for name, mean_ng in told.items()}
    best = {min((n for n in found if n.startswith(kind)), key=lambda n: found[n][0]) for kind in ("PCA", "neighbours")}
    zero = found["gene mean"][0]
    print(f"{adata.n_obs:,} cells × {adata.n_vars:,} genes, {hidden.sum():,.0f} molecules judge")
    print(f"{'method':<20}{'deviance':>12}{'gain, %':>12}{'error':>12}")
    for name, (deviance, error) in found.items():
        gain = 100 * (1 - deviance / zero)
        print(f"{name + ' *' * (name in best):<20}{1e3 * deviance:>12.2f}{gain:>12.2f}{1e3 * error:>12.3f}")


def subset(n_cells: int, n_genes: int) -> AnnData:
    """Draw cells, and take their most variable genes."""
    adata = kang()
    adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, n_cells, replace=False))].copy()
    adata = adata[:, list(highly_variable(open_source(adata), n_genes))].copy()
    return adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()


def judge(hidden: sparse.csr_matrix, mean_ng: Means) -> tuple[float, float]:
    """Return the deviance, and the mean squared error."""
    return poisson_deviance(hidden, mean_ng), float(np.mean((hidden.toarray() - mean_ng) ** 2))


def baselines(seen: sparse.csr_matrix) -> dict[str, Means]:
    """Denoise by what needs no network."""
    x_ng = seen.toarray().astype(np.float64)
    size_n1 = x_ng.sum(1, keepdims=True)
    per_target_ng = TARGET * x_ng / np.maximum(size_n1, 1)
    log_ng = np.log1p(per_target_ng)
    told = {"no denoising": x_ng, "gene mean": size_n1 * x_ng.sum(0) / x_ng.sum()}
    for n in (5, 10, 20, 50):
        told[f"PCA {n}"] = from_components(log_ng, n, size_n1)
    z_nk = PCA(20, random_state=0).fit_transform(log_ng)
    for n in (5, 15, 50):
        near = NearestNeighbors(n_neighbors=n + 1).fit(z_nk).kneighbors(return_distance=False)
        mean_ng = np.stack([x_ng[row].sum(0) / x_ng[row].sum() for row in near])
        told[f"neighbours {n}"] = size_n1 * mean_ng
    return told


def from_components(log_ng: Means, n: int, size_n1: Means) -> Means:
    """Keep some components, and go back to counts of the same size."""
    pca = PCA(n, random_state=0)
    per_target_ng = np.expm1(np.maximum(pca.inverse_transform(pca.fit_transform(log_ng)), 0))
    return np.asarray(size_n1 * per_target_ng / np.maximum(per_target_ng.sum(1, keepdims=True), 1e-9))


if __name__ == "__main__":
    main()
