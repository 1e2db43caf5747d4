"""What the dimensions of a linear model are: the loadings of genes, and the scores of cells."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from genevae.errors import CategoryError, DataError, nearest
from genevae.tasks.groups import chosen_groups, group_names, known_groups
from genevae.tasks.inference import TrainedModel, evaluation_mode, open_cells, posteriors
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["loadings", "program_scores"]

N_PAIRS = 20_000
"""Pairs of cells, one of each group, that are compared."""
SURE = 1e-6
"""Distance of a probability from zero and one at which its odds end."""

Numbers = NDArray[np.float64]


@task
def loadings(model: TrainedModel) -> pd.DataFrame:
    """Return the loading of every gene on every dimension of the latent, of a model with a linear likelihood.

    The logit of a gene's proportion is Σ_k w_gk z_k + what the condition adds. Dimensions are turned so that the sum of
    their loadings is positive: where a score is high, the genes of its program are.

    Parameters
    ----------
    model
        A model of recipe programs or linear.

    Returns
    -------
    DataFrame
        Genes × dimensions: the gene sets by name, then ``free 1``, …; of recipe linear ``factor 1``, …

    Raises
    ------
    DataError
        If the model's likelihood is not linear.

    References
    ----------
    Svensson et al., Bioinformatics 36:3418 (2020).
    """
    weight_gk = _turned(model)[0]
    return pd.DataFrame(weight_gk, index=pd.Index(model.schema.genes, name="gene"), columns=_names(model))


@task
def program_scores(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    group_by: str | None = None,
    group1: str | None = None,
    group2: str | None = None,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
) -> AnnData:
    """Score the gene programs of cells: the latent dimensions of a model with a linear likelihood.

    A score is the mean of q(z_k | x, c), turned so that it is high where the genes of the program are.

    Parameters
    ----------
    model
        A model of recipe programs or linear.
    data
        Cells with the model's genes and conditions.
    group_by
        An obs column, whose groups are compared in every score.
    group1, group2
        The groups to compare: a group, and another or by default all other cells.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Of the pairs of cells that are compared.

    Returns
    -------
    AnnData
        Cells × programs: scores in X, standard deviations in ``layers["scale"]``. ``var`` has ``n_genes``, the number
        of genes that a program loads on, and ``strength``, the length of its loadings times the standard deviation of
        its scores. With groups also the ``probability`` that a cell of the first has a higher score than one of the
        second, averaged over pairs of cells, and its ``log_bayes_factor``, log(p / (1 − p)); the largest first.

    Raises
    ------
    CategoryError
        If a group is unknown.
    DataError
        If the model's likelihood is not linear, or the data do not fit the model.

    References
    ----------
    Lotfollahi et al., Nature Cell Biology 25:337 (2023).
    """
    from anndata import AnnData

    weight_gk, sign_k = _turned(model)
    cells = open_cells(model, data, layer, batch_size)
    obs = cells.source.obs.copy()
    if group_by is None and (group1 is not None or group2 is not None):
        raise CategoryError("Give the obs column of the groups too: group_by (--group-by).")
    groups = None if group_by is None else _groups(obs, group_by, group1, group2)
    mean, scale, _ = posteriors(model, cells)
    mean_nk, scale_nk = mean.numpy() * sign_k, scale.numpy()
    var = pd.DataFrame(index=pd.Index(_names(model), dtype=object))
    var["n_genes"] = (weight_gk != 0).sum(0)
    var["strength"] = np.linalg.norm(weight_gk, axis=0) * mean_nk.std(0)
    found = AnnData(mean_nk.astype(np.float32), obs=obs, var=var, layers={"scale": scale_nk})
    if groups is None:
        return found
    p_k = _higher(mean_nk.astype(np.float64), scale_nk.astype(np.float64), *groups, seed)
    found.var["probability"] = p_k
    found.var["log_bayes_factor"] = np.log(p_k / (1 - p_k))
    return found[:, np.argsort(-np.abs(found.var["log_bayes_factor"].to_numpy()), kind="stable")].copy()


def _turned(model: TrainedModel) -> tuple[Numbers, Numbers]:
    """Return the loadings, turned, and the sign of each dimension."""
    with evaluation_mode(model) as module:
        found = getattr(module, "loadings", lambda: None)()
    if found is None:
        raise DataError(
            "This model has no loadings: its likelihood is not linear in the latent. Train one with the recipe linear, "
            "or with programs and --gene-sets FILE.gmt; gene_embeddings has the decoder's vector of each gene."
        )
    weight_gk = found.detach().cpu().numpy().astype(np.float64)
    sign_k = np.where(weight_gk.sum(0) < 0, -1.0, 1.0)
    return weight_gk * sign_k, sign_k


def _names(model: TrainedModel) -> list[str]:
    programs, n = [name for name, _ in model.schema.programs], model.reference.mean_nk.shape[1]
    kind = "free" if programs else "factor"
    free = (name for k in count(1) if (name := f"{kind} {k}") not in programs)
    return [*programs, *islice(free, n - len(programs))]


def _groups(
    obs: pd.DataFrame, name: str, one: str | None, two: str | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the two groups."""
    group_n = group_names(obs, name)
    if one is None:
        raise CategoryError(f"Give the group of '{name}' to compare (--group1). {nearest('', known_groups(group_n))}")
    is_one_n = np.isin(group_n, chosen_groups(one, group_n, name))
    others = (group_n != "") if two is None else np.isin(group_n, chosen_groups(two, group_n, name))
    rows = np.flatnonzero(is_one_n), np.flatnonzero(others & ~is_one_n)
    if not len(rows[1]):
        raise CategoryError(f"'{one}' of '{name}' has no other group to compare with. Give another with --group2.")
    return rows


def _higher(
    mean_nk: Numbers, scale_nk: Numbers, one_n: NDArray[np.int64], two_n: NDArray[np.int64], seed: int
) -> Numbers:
    """Return the mean of Φ((μ − μ') / √(σ² + σ'²)) over pairs of cells, one of each group."""
    rng = np.random.default_rng(seed)
    n = min(N_PAIRS, 10 * max(len(one_n), len(two_n)))
    a_m, b_m = rng.choice(one_n, n), rng.choice(two_n, n)
    spread_mk = np.sqrt(scale_nk[a_m] ** 2 + scale_nk[b_m] ** 2)
    return np.asarray(np.clip(ndtr((mean_nk[a_m] - mean_nk[b_m]) / spread_mk).mean(0), SURE, 1 - SURE))
