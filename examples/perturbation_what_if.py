"""Predict B cells under interferon with a model that was trained without stimulated B cells.

python examples/perturbation_what_if.py         # GENEVAE_DATA names the folder of the data, by default ../shared/data
"""

import argparse
import os
from pathlib import Path

import numpy as np

import genevae as gv
from genevae.metrics.ceiling import split_half_ceiling
from genevae.metrics.response import log_normalised, pearson
from genevae.responses.simple import mean_shift

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=60)
epochs = parser.parse_args().epochs

# Blood cells of eight donors, untreated (ctrl) and after six hours of interferon β (stim).
adata = gv.read(Path(os.environ.get("GENEVAE_DATA", "../shared/data")) / "kang_merged.h5ad")

# Hold out the stimulated B cells. The model is conditioned on the treatment only, not on the cell type: it infers the
# type from expression. The cell type is the context: the profiles of the other types in both treatments are kept.
held_out = {"cell_type": "B", "condition": "stim"}
model = gv.fit(
    adata, "nb", condition=["condition"], control={"condition": "ctrl"}, context=["cell_type"], hold_out=held_out,
    genes=1000, epochs=epochs, progress=False,
)  # fmt: skip
adata = adata[:, list(model.schema.genes)]
cell_type, treatment = adata.obs["cell_type"], adata.obs["condition"]

# Predict the untreated B cells under interferon. The answer weighs the model and simple methods by how well each
# predicted types that it had not seen stimulated. X keeps the noise of each cell.
untreated = adata[((cell_type == "B") & (treatment == "ctrl")).to_numpy()]
predicted = gv.counterfactual(model, untreated, condition={"condition": "stim"})

# Evaluate the shift from untreated cells, not the profile: most expression does not change, so any predicted profile
# would score well. The baseline is the mean shift of the other types; the ceiling is the score of other true cells.
x = log_normalised(adata.X)
types = ("B", "CD4 T", "CD8 T", "NK", "CD14+ Mono", "FCGR3A+ Mono", "DC")
before, after = ({k: x[(cell_type == k) & (treatment == name)].mean(0) for k in types} for name in ("ctrl", "stim"))
start, end = before.pop("B"), after.pop("B")
shifts = {
    "genevae": log_normalised(predicted.X).mean(0) - start,
    "mean shift of other types": mean_shift(before, after),
    "no change": np.zeros_like(start),
}
for name, shift in shifts.items():
    print(f"{name:<26} Pearson-Δ {pearson(shift, end - start):.3f}")
ceiling = split_half_ceiling(x[(cell_type == "B") & (treatment == "stim")], start)
print(f"{'ceiling (split halves)':<26} Pearson-Δ {ceiling:.3f}")
members = predicted.uns["genevae"]["members"]
print(
    "members:",
    ", ".join(f"{member} {weight:.0%}" for member, weight in zip(members["member"], members["weight"], strict=True)),
)
top = np.argsort(-np.abs(shifts["genevae"]))[:8]
print("largest predicted changes:", ", ".join(f"{adata.var_names[g]} {shifts['genevae'][g]:+.1f}" for g in top))
