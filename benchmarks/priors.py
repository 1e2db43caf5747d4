"""The held-out bound with each prior of the latent: ``python -m benchmarks.priors``.

It needs the data sets in the folder ``GENEVAE_DATA``.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from benchmarks.real import folder

import genevae as gv
from genevae.evaluation.adapters import as_evaluated

DATA = {"kang_merged": "cell_type", "pbmc_facs_fasttopics": "sorted_population"}
PRIORS = ("standard", "conditional", "mixture", "vamp", "flow")
N_GENES, N_DRAWS = 1000, 32


def main() -> None:
    """Print a row for each data set and prior: importance-weighted bound and bound, in nats per held-out cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the split and of training")
    seed = parser.parse_args().seed
    warnings.simplefilter("ignore")
    gv.settings.progress = False
    print("| data | prior | importance-weighted bound | bound | KL | seconds |\n|---|---|--:|--:|--:|--:|")
    for name, label in DATA.items():
        adata = gv.read(folder() / f"{name}.h5ad")
        adata.obs_names_make_unique()
        for prior in PRIORS:
            started = time.perf_counter()
            model = gv.fit(
                adata, "nb", condition=label, genes=N_GENES, test=0.2, seed=seed, folds=0, setting={"prior": prior}
            )
            seconds = time.perf_counter() - started
            held_out = adata[(model.split.reindex(adata.obs_names) == "test").to_numpy()].copy()
            log_weights = as_evaluated(model).log_weights
            if log_weights is None:
                raise AssertionError("the recipe nb has a bound")
            weight_sn = log_weights(held_out, N_DRAWS, seed)
            tight = np.logaddexp.reduce(weight_sn, 0).mean() - np.log(len(weight_sn))
            kl = model.history["validation_kl"].iloc[model.facts["best_epoch"] - 1]
            print(f"| {name} | {prior} | {tight:.2f} | {weight_sn.mean():.2f} | {kl:.2f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
