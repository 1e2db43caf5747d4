"""Embed blood cells, cluster them, and compare the clusters with cell types.

python examples/embed_and_cluster.py            # GENEVAE_DATA names the folder of the data, by default ../shared/data
"""

import argparse
import os
from pathlib import Path

from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import genevae as gv
from genevae.metrics.response import log_normalised

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=60)
epochs = parser.parse_args().epochs

# 2,638 blood cells of one donor. Their types are known, but the model is not conditioned on them.
adata = gv.read(Path(os.environ.get("GENEVAE_DATA", "../shared/data")) / "pbmc3k_labelled.h5ad")
print(gv.inspect(adata))

# The recipe nb has a count likelihood. One cell in ten is used for validation, to choose the best epoch.
model = gv.fit(adata, recipe="nb", genes=1000, epochs=epochs, progress=False)
best = model.facts["best_epoch"]
print(f"\ntrained for {len(model.history)} epochs; best epoch {best}")

# The latent: a posterior mean for every cell, stored in obsm for scanpy.
adata.obsm["X_genevae"] = gv.embed(model, adata).obsm["X_genevae"]

# The baseline: PCA with the same number of dimensions, on the same genes.
genes = list(model.schema.genes)
adata.obsm["X_pca"] = PCA(model.recipe.model.n_latent, random_state=0).fit_transform(log_normalised(adata[:, genes].X))

# The number of clusters is the number of types. An adjusted Rand index of 1 is the same partition; 0 is chance.
types = adata.obs["cell_type"]
for name in ("X_genevae", "X_pca"):
    clusters = KMeans(types.nunique(), n_init=10, random_state=0).fit_predict(adata.obsm[name])
    print(f"{name:<12} adjusted Rand index {adjusted_rand_score(types, clusters):.3f}")

# Continue with scanpy: sc.pp.neighbors(adata, use_rep="X_genevae"); sc.tl.leiden(adata); sc.tl.umap(adata)
