"""Log-probabilities beside scvi-tools' and SciPy's, on real counts: `make bench`.

The first 512 cells of Kang et al. 2018, all genes, means drawn around each gene's own and one inverse dispersion per
gene. Printed: the largest difference of any entry and of any cell's sum, in nats. scvi-tools adds 1e-8 to means inside
its logarithms and is compared in float64, where that is what remains.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from real import kang
from scipy import stats

from genevae.data.loader import to_rows
from genevae.distributions import NegativeBinomial


def main() -> None:
    """Print the largest differences."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scvi.distributions import NegativeBinomial as TheirNegativeBinomial
    adata = kang()[:512]
    rng = np.random.default_rng(0)
    gene_g = np.asarray(adata.X.mean(0)).ravel() + 1e-3
    mean_ng = gene_g * rng.lognormal(0, 0.5, adata.shape)
    theta_g = rng.lognormal(0, 1, adata.n_vars)
    x_ng = adata.X.toarray().astype(np.float64)
    scipys = stats.nbinom.logpmf(x_ng, theta_g, theta_g / (theta_g + mean_ng))
    mean, theta = torch.from_numpy(mean_ng), torch.from_numpy(theta_g)
    scvis = TheirNegativeBinomial(mu=mean, theta=theta).log_prob(torch.from_numpy(x_ng)).numpy()
    for dtype in (torch.float32, torch.float64):
        ours = NegativeBinomial(mean.to(dtype), theta.to(dtype))
        dense_ng = ours.log_prob(torch.from_numpy(x_ng).to(dtype)).double().numpy()
        sparse_n = ours.log_prob_n(to_rows(adata.X).to("cpu", dtype)).double().numpy()
        for name, theirs in (("SciPy", scipys), ("scvi-tools", scvis)):
            entry, cell = np.abs(dense_ng - theirs).max(), np.abs(sparse_n - theirs.sum(1)) / np.abs(theirs.sum(1))
            print(f"{dtype} against {name:<11} entry {entry:.1e} nats, sum over a cell {cell.max():.1e} of itself")


if __name__ == "__main__":
    main()
