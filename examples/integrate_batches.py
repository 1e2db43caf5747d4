"""Take three 10x chemistries out of a latent, and keep the cell types in it.

python examples/integrate_batches.py            # GENEVAE_DATA names the folder of the data, by default ../shared/data
"""

import argparse
import os
from pathlib import Path

from sklearn.decomposition import PCA

import genevae as gv
from genevae.metrics.leakage import chance, local_mixing, readable
from genevae.metrics.response import log_normalised

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=150)
epochs = parser.parse_args().epochs

# 1,200 blood cells; which chemistry a cell was measured with shows in its expression as much as its type does.
adata = gv.read(Path(os.environ.get("GENEVAE_DATA", "../shared/data")) / "pbmc_3tech_symphony.h5ad")
batch, kind = adata.obs["batch"].to_numpy(), adata.obs["cell_type_broad"].to_numpy()
print(adata.obs["batch"].value_counts().to_string(), "\n")

# A decoder that is told the batch need not learn it from the latent. The recipe `adversarial` also trains a classifier
# that looks for the batch in the latent, and a posterior that gives it nothing to find.
latents = {"PCA": PCA(10, random_state=0).fit_transform(log_normalised(adata.X))}
for recipe in ("nb", "adversarial"):
    model = gv.fit(adata, recipe=recipe, batch="batch", epochs=epochs, progress=False)
    latents[recipe] = gv.embed(model, adata).obsm["X_genevae"]

# Judged by classifiers of our own, which had no part in training. The batch should not be told better than chance; the
# type should. Mixing counts the batches that meet around a cell, from 1 to 3.
print(f"{'':<14}{'batch told':>12}{'mixing':>9}{'type told':>12}")
print(f"{'chance':<14}{chance(batch):>12.3f}{'':>9}{chance(kind):>12.3f}")
common = adata.obs["cell_type_broad"].map(adata.obs["cell_type_broad"].value_counts()).to_numpy(dtype=int) >= 20
for name, z in latents.items():
    told, mixing = readable(z, batch), local_mixing(z, batch)
    print(f"{name:<14}{told:>12.3f}{mixing:>9.2f}{readable(z[common], kind[common], 'neighbours'):>12.3f}")
