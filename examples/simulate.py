"""Simulate cells of given types, and let a classifier try to tell them from real ones.

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

# 700 blood cells of ten types; 30 % of each type are kept away, to compare with.
adata = gv.read(Path(os.environ.get("GENEVAE_DATA", "../shared/data")) / "pbmc68k_reduced_counts.h5ad")
model = gv.fit(
    adata, recipe="nb", condition=["cell_type"], stratify="cell_type", test=0.3, epochs=epochs, progress=False
)
held_out, train = (adata[(model.split == part).to_numpy()] for part in ("test", "training"))

# A new cell starts from the posterior of a training cell of its type; `latent="prior"` would start from the prior.
new = gv.generate(model, n=200, condition={"cell_type": ["Dendritic", "CD14+ Monocyte", "CD19+ B"]}, seed=1)
print(new)
print(new.obs["cell_type"].astype(str).value_counts().to_string(), "\n")

# A random forest's AUC is 0.5 where it cannot tell made cells from real ones, and 1 where it always can. Beside the
# model: training cells, which is as good as it gets; and genes drawn one by one, each from the cells of the type, which
# have every gene right and no gene knows of another.
rng = np.random.default_rng(0)
print(f"{'':<16}{'genevae':>10}{'genes alone':>13}{'real':>8}")
for kind in new.obs["cell_type"].unique():
    real, known = (each[(each.obs["cell_type"] == kind).to_numpy()].X.toarray() for each in (held_out, train))
    made = new[(new.obs["cell_type"] == kind).to_numpy()].X[: len(real)]
    alone, others = rng.permuted(known, axis=0)[: len(real)], rng.permutation(known)[: len(real)]
    aucs = [two_sample_auc(log_normalised(real), log_normalised(each), n_trees=50) for each in (made, alone, others)]
    print(f"{kind:<16}{aucs[0]:>10.3f}{aucs[1]:>13.3f}{aucs[2]:>8.3f}")
