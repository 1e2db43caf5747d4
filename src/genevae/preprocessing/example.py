"""Example data: real blood cells from the wheel of scanpy, as they are, or with simulated donors and a stimulation."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from genevae.errors import DataError, nearest
from genevae.io.formats import read

__all__ = ["EXAMPLES", "example"]

RESPONSE = (
    "IFITM",
    "ISG",
    "IFI",
    "STAT1",
    "IRF",
    "HLA-",
    "PSMB",
    "B2M",
    "LY6E",
    "SAT1",
    "TYMP",
    "CTSS",
    "MX",
    "TNFSF",
    "CCL",
    "CXCL",
    "PLSCR",
    "LGALS",
    "S100A8",
    "S100A9",
    "FCER1G",
    "TNF",
)
"""Beginnings of the names of genes that respond in the simulated stimulation."""
STRENGTH, STRONG = 0.3, 0.1
"""Share of the molecules of a responding gene that unstimulated cells keep: of most cells, and of myeloid cells."""
MYELOID = ("Mono", "Dendritic")
DONORS = ("donor_1", "donor_2", "donor_3", "donor_4")
LEAST_KEPT = 0.6
"""Of the molecules of a gene that a donor's processing loses at most."""


def example(name: str = "pbmc", seed: int = 0) -> AnnData:
    """Return example data.

    Parameters
    ----------
    name
        "pbmc": 700 blood cells with 765 genes, integer counts, and ``cell_type``. "stimulated": the same cells with
        simulated donors and a simulated stimulation, whose true effect is therefore known.
    seed
        Of the simulation.

    Returns
    -------
    AnnData
        Counts. "stimulated" has ``donor`` and ``perturbation`` (ctrl, stim) in obs, and in var ``log_fold_change`` and
        ``log_fold_change_myeloid``, the natural logarithm of the true change of each gene.

    Raises
    ------
    DataError
        If there is no such example, or scanpy, whose wheel has the cells, is not installed.

    Notes
    -----
    Of the simulation: cells are assigned to donors and to a state at random. Each donor keeps a share of the molecules
    of each gene, from 0.6 to 1 at random, as a batch effect. Unstimulated cells keep 30 % of the molecules of
    genes of the interferon response (10 % in myeloid cells), which is an upregulation in stimulated ones.

    References
    ----------
    Zheng et al., Nature Communications 8:14049 (2017).

    Examples
    --------
    >>> example("stimulated").obs["perturbation"].unique().tolist()
    ['ctrl', 'stim']
    """
    if name not in EXAMPLES:
        raise DataError(f"There is no example '{name}'. {nearest(name, EXAMPLES)}")
    return EXAMPLES[name](seed)


def _pbmc(seed: int) -> AnnData:  # noqa: ARG001 - nothing is random
    """Read the cells; the file holds log(1 + counts · 10,000 / n_counts), and undoing that gives the counts back."""
    found = importlib.util.find_spec("scanpy")
    if found is None or found.origin is None:
        raise DataError("The cells of the example come with scanpy, which is not installed: pip install scanpy.")
    shipped = read(Path(found.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad")
    size_n1 = shipped.obs["n_counts"].to_numpy()[:, None]
    counts = np.rint(np.expm1(shipped.raw.X.toarray()) * size_n1 / 1e4).astype(np.float32)
    obs = pd.DataFrame({"cell_type": shipped.obs["bulk_labels"].astype(str)}, index=shipped.obs_names.astype(str))
    return AnnData(csr_matrix(counts), obs=obs, var=pd.DataFrame(index=shipped.raw.var_names.astype(str)))


def _stimulated(seed: int) -> AnnData:
    adata, rng = _pbmc(seed), np.random.default_rng(seed)
    donor_n = rng.integers(len(DONORS), size=adata.n_obs)
    is_control_n = rng.random(adata.n_obs) < 0.5
    is_control_n[0] = True
    myeloid_n = adata.obs["cell_type"].str.contains("|".join(MYELOID)).to_numpy()
    responds_g = adata.var_names.str.startswith(RESPONSE)
    kept_dg = rng.uniform(LEAST_KEPT, 1, (len(DONORS), adata.n_vars))
    kept_n = np.where(myeloid_n, STRONG, STRENGTH)
    kept_ng = kept_dg[donor_n] * np.where(is_control_n[:, None] & responds_g, kept_n[:, None], 1.0)
    counts = rng.binomial(adata.X.toarray().astype(np.int64), kept_ng)
    obs = adata.obs.assign(
        donor=pd.Categorical.from_codes(donor_n, DONORS),
        perturbation=pd.Categorical(np.where(is_control_n, "ctrl", "stim")),
    )
    var = adata.var.assign(
        log_fold_change=np.where(responds_g, -np.log(STRENGTH), 0.0),
        log_fold_change_myeloid=np.where(responds_g, -np.log(STRONG), 0.0),
    )
    return AnnData(csr_matrix(counts.astype(np.float32)), obs=obs, var=var)


EXAMPLES: dict[str, Callable[[int], AnnData]] = {"pbmc": _pbmc, "stimulated": _stimulated}
"""The examples by name."""
