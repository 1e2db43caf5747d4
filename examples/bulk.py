"""Embed bulk RNA-seq, and predict the tissue of samples from held-out studies.

python examples/bulk.py                         # GENEVAE_DATA names the folder of the data, by default ../shared/data
"""

import argparse
import os
from pathlib import Path

from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import genevae as gv
from genevae.metrics.labels import accuracy, majority_accuracy
from genevae.metrics.response import log_normalised

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=100)
epochs = parser.parse_args().epochs

# 989 samples of GTEx and TCGA. Each study has its own batch effects, so a fair test holds out whole studies: one of
# each of five tissues.
adata = gv.read(Path(os.environ.get("GENEVAE_DATA", "../shared/data")) / "bulk_gtex_tcga_rnaseqdb.h5ad")
is_new = adata.obs["project"].isin(["GTEX_kidney", "GTEX_bladder", "lusc", "GTEX_cervix", "ucs"]).to_numpy()
known, new = adata[~is_new].copy(), adata[is_new].copy()
print(f"{known.n_obs} training samples, {new.n_obs} samples of held-out studies\n")

# The recipe uses log counts per million, standardises every gene, masks random genes in every step, and reconstructs
# all of them. The model can therefore also impute genes that a sample lacks.
model = gv.fit(known, recipe="bulk", genes=1000, epochs=epochs, progress=False)
latents = {"genevae": [gv.embed(model, each).obsm["X_genevae"] for each in (known, new)]}

# The baseline: the same number of principal components of the same standardised genes.
genes = list(model.schema.genes)
x, y = (log_normalised(each[:, genes].X, 1e6) for each in (known, new))
scaler = StandardScaler().fit(x)
pca = PCA(model.recipe.model.n_latent, random_state=0).fit(scaler.transform(x))
latents["PCA"] = [pca.transform(scaler.transform(each)) for each in (x, y)]

tissues, true = (each.obs["tissue"].astype(str).to_numpy() for each in (known, new))
for name, (z, z_new) in latents.items():
    predicted = KNeighborsClassifier(15).fit(z, tissues).predict(z_new)
    print(f"{name:<20} accuracy {accuracy(true, predicted):.3f}")
print(f"{'commonest tissue':<20} accuracy {majority_accuracy(tissues, true):.3f}")
