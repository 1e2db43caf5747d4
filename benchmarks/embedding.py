"""Vectors of perturbed genes, from gene sets and from the co-expression of genes in control cells.

``python -m benchmarks.embedding DATA.h5ad SETS.gmt … --column perturbation --control non-targeting --out FILE.csv``
writes a file for ``genevae fit --embedding perturbation=FILE.csv``. A perturbation is named after the gene that it
targets. No perturbed cell is used.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

import genevae as gv
from genevae.io.gmt import read_gene_sets
from genevae.metrics.response import log_normalised

__all__ = ["gene_vectors"]

LARGEST, N_COMPONENTS = 300, 10
"""Genes of a set at most, since large sets say little; and principal components of the co-expression."""


def gene_vectors(
    targets: Sequence[str], control: AnnData, sets: Mapping[str, Sequence[str]], n_components: int = N_COMPONENTS
) -> pd.DataFrame:
    """Return a vector for each gene: its gene sets, and how the genes of these sets vary together in control cells.

    The first part has a feature for each set with two or more of the targets, 1 / √(size of the set) where it has the
    gene. The second part is the mean, over the sets of the gene, of the loadings of their measured genes on the
    principal components of control cells; a gene that is measured adds its own. Both parts have length one, so that
    genes with many sets are not far from all others.
    """
    usable = {name: set(genes) for name, genes in sets.items() if len(genes) <= LARGEST}
    shared = [name for name, genes in usable.items() if len(genes & set(targets)) > 1]
    of_sets = np.array([[(one in usable[name]) / np.sqrt(len(usable[name])) for name in shared] for one in targets])
    x_ng = log_normalised(control.X)
    x_ng = (x_ng - x_ng.mean(0)) / np.maximum(x_ng.std(0), 0.1)
    value_g, axis_gg = np.linalg.eigh(x_ng.T @ x_ng / len(x_ng))
    loading_gk = (axis_gg * np.sqrt(value_g.clip(min=0)))[:, ::-1][:, :n_components]
    names = np.array(control.var_names)
    of_cells = np.zeros((len(targets), n_components))
    for row, one in enumerate(targets):
        near = [np.isin(names, list(genes)) for genes in usable.values() if one in genes]
        profiles = [loading_gk[some].mean(0) for some in near if some.any()]
        profiles += list(loading_gk[names == one])
        if profiles:
            of_cells[row] = np.mean(profiles, 0)
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True).clip(min=1e-12) for part in (of_sets, of_cells)]
    columns = [*shared, *(f"component {k + 1}" for k in range(n_components))]
    return pd.DataFrame(np.hstack(parts), index=pd.Index(targets, name="gene"), columns=columns)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="cells, with their perturbation in obs")
    parser.add_argument("sets", nargs="+", help="GMT files")
    parser.add_argument("--column", default="perturbation", help="of obs")
    parser.add_argument("--control", required=True, help="its value in control cells")
    parser.add_argument("--also", nargs="*", default=[], help="more perturbations, which no cell has")
    parser.add_argument("--out", required=True, help="the CSV file")
    given = parser.parse_args()
    adata = gv.read(given.data)
    level = adata.obs[given.column].astype(str)
    sets = {name: genes for path in given.sets for name, genes in read_gene_sets(path).items()}
    targets = sorted({*level, *given.also} - {given.control})
    gene_vectors(targets, adata[(level == given.control).to_numpy()], sets).to_csv(given.out)


if __name__ == "__main__":
    main()
