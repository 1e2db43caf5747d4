"""Simulate cells of given types, and train a classifier to distinguish them from real ones.

python examples/simulate.py                     # GENEVAE_DATA names the folder of the data, by default ../shared/data
"""

import argparse
import os
from pathlib import Path

import numpy as np

import genevae as gv
from genevae.metrics.response import log_normalised
from genevae.metrics.simulation import two_sample_auc

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=100)
epochs = parser.parse_args().epochs

# 700 blood cells of ten types; 30 % of each type are held out for the comparison.
adata = gv.read(Path(os.environ.get("GENEVAE_DATA", "../shared/data")) / "pbmc68k_reduced_counts.h5ad")
model = gv.fit(
    adata, recipe="nb", condition=["cell_type"], stratify="cell_type", test=0.3, epochs=epochs, progress=False
)
held_out, train = (adata[(model.split == part).to_numpy()] for part in ("test", "training"))

# The latent of each cell is sampled from the posterior of a training cell of its type; `latent="prior"` uses the prior.
new = gv.generate(model, n=200, condition={"cell_type": ["Dendritic", "CD14+ Monocyte", "CD19+ B"]}, seed=1)
print(new)
print(new.obs["cell_type"].astype(str).value_counts().to_string(), "\n")

# The AUC of a random forest is 0.5 if simulated and real cells are indistinguishable, and 1 if they are always
# distinguished. The ceiling: real training cells. The baseline: each gene shuffled over the cells of the type, which
# keeps the distribution of every gene and removes all correlations between genes.
rng = np.random.default_rng(0)
print(f"{'':<16}{'genevae':>10}{'genes shuffled':>16}{'real':>8}")
for cell_type in new.obs["cell_type"].unique():
    real, known = (each[(each.obs["cell_type"] == cell_type).to_numpy()].X.toarray() for each in (held_out, train))
    simulated = new[(new.obs["cell_type"] == cell_type).to_numpy()].X[: len(real)]
    shuffled, training = rng.permuted(known, axis=0)[: len(real)], rng.permutation(known)[: len(real)]
    aucs = [
        two_sample_auc(log_normalised(real), log_normalised(each), n_trees=50)
        for each in (simulated, shuffled, training)
    ]
    print(f"{cell_type:<16}{aucs[0]:>10.3f}{aucs[1]:>16.3f}{aucs[2]:>8.3f}")
