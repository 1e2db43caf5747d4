"""Integrate three 10x chemistries: remove the batch from the latent, and keep the cell types.

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

# 1,200 blood cells. The chemistry affects the expression of a cell as much as its type does.
adata = gv.read(Path(os.environ.get("GENEVAE_DATA", "../shared/data")) / "pbmc_3tech_symphony.h5ad")
batch, cell_type = adata.obs["batch"].to_numpy(), adata.obs["cell_type_broad"].to_numpy()
print(adata.obs["batch"].value_counts().to_string(), "\n")

# The decoder is conditioned on the batch, so the latent need not contain it. The recipe `adversarial` also trains a
# discriminator that predicts the batch from the latent, and trains the encoder against it; and `embed` corrects what is
# left of the batch, here and in new cells.
latents = {"PCA": PCA(10, random_state=0).fit_transform(log_normalised(adata.X))}
for recipe in ("nb", "adversarial"):
    model = gv.fit(adata, recipe=recipe, batch="batch", epochs=epochs, progress=False)
    latents[recipe] = gv.embed(model, adata).obsm["X_genevae"]

# Evaluate with classifiers that were not part of training. The batch should be predicted no better than chance, the
# type as well as possible. Mixing is the effective number of batches among the neighbours of a cell, from 1 to 3.
print(f"{'accuracy of':<14}{'batch':>12}{'cell type':>12}{'mixing':>12}")
print(f"{'chance':<14}{chance(batch):>12.3f}{chance(cell_type):>12.3f}")
common = adata.obs["cell_type_broad"].map(adata.obs["cell_type_broad"].value_counts()).to_numpy(dtype=int) >= 20
for name, z in latents.items():
    of_batch, of_type = readable(z, batch), readable(z[common], cell_type[common], "neighbours")
    print(f"{name:<14}{of_batch:>12.3f}{of_type:>12.3f}{local_mixing(z, batch):>12.2f}")
