"""Profiles of one donor find each other: `contrastive` beside the plain `bulk` VAE, PCA and expression itself.

Kang et al. 2018, the cells whose donor is known: eight donors, four or five of them in each condition, so that this is
an illustration and no proof. The cells are dealt into two halves. From the first half come the training profiles: sums
by donor and condition (pseudobulks), and by donor, condition and cell type. From the second half come the questions:
each sum by donor, condition and cell type, of 10 cells or more, is to find the pseudobulk of its donor among those of
its condition (so that the response to interferon is of no help). No cell is on both sides.

- new cells: the donor's profiles of that type were trained on, made of other cells.
- new type: no profile of that type was trained on, of any donor.

Printed: the share of questions whose nearest pseudobulk, by cosine, is the donor's (top 1), and the mean reciprocal
rank of the donor's pseudobulk (MRR), of one seed; and what chance would give. Target: to beat PCA and the plain VAE.
"""

from __future__ import annotations

import argparse

import anndata as ad
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from real import kang
from sklearn.decomposition import PCA

import genevae as gv
from genevae.preprocessing.pseudobulk import pseudobulk
from genevae.tasks.inference import evaluation_mode, open_cells

TYPES = ("CD4 T", "CD14+ Mono", "B")
Scores = dict[str, list[tuple[float, float]]]


def main() -> None:
    """Print one table for each kind of question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--types", nargs="*", default=TYPES, help="left out of training, one at a time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training, gallery, questions = profiles(arguments.seed)
    n_donors = training.obs["donor"].nunique()
    print(f"{training.n_obs} training profiles, {gallery.n_obs} pseudobulks of {n_donors} donors, "
          f"{questions.n_obs} questions; {arguments.genes:,} genes")  # fmt: skip
    options = (arguments.genes, arguments.epochs, arguments.seed)
    show("new cells", ask(training, gallery, questions, *options))
    parts = []
    for name in arguments.types:
        others = training[(training.obs["cell_type"] != name).to_numpy()].copy()
        of_type = questions[(questions.obs["cell_type"] == name).to_numpy()].copy()
        parts.append(ask(others, gallery, of_type, *options))
    show(f"new type ({', '.join(arguments.types)})", {name: [s for p in parts for s in p[name]] for name in parts[0]})


def profiles(seed: int) -> tuple[AnnData, AnnData, AnnData]:
    """Return the training profiles, those of them that are pseudobulks, and the questions."""
    cells = kang()
    cells = cells[(cells.obs["donor"] != "unknown").to_numpy()]
    is_first = np.random.default_rng(seed).permutation(cells.n_obs) % 2 == 0
    first, second = cells[is_first].copy(), cells[~is_first].copy()
    whole = pseudobulk(first, by=["donor", "condition"], min_cells=10)
    whole.obs["cell_type"] = "all"
    of_types = pseudobulk(first, by=["donor", "condition", "cell_type"], min_cells=10)
    return ad.concat([whole, of_types]), whole, pseudobulk(second, by=["donor", "condition", "cell_type"], min_cells=10)


def ask(training: AnnData, gallery: AnnData, questions: AnnData, n_genes: int, epochs: int, seed: int) -> Scores:
    """Train on some profiles, and return top 1 and reciprocal rank of each question, by each method."""
    common = {"genes": n_genes, "epochs": epochs, "seed": seed, "progress": False, "device": "cpu"}
    plain = gv.fit(training, recipe="bulk", **common)
    joint, frozen = (
        gv.fit(training, recipe="contrastive", group="donor", setting={"posterior": posterior}, **common)
        for posterior in ("joint", "frozen")
    )
    seen, shown, asked = (as_seen(plain, each) for each in (training, gallery, questions))
    pca = PCA(min(plain.recipe.n_latent, len(seen)), random_state=0).fit(seen)
    sides = {
        "contrastive, projection": embedded(joint, gallery, questions, "X_genevae_projected"),
        "contrastive, latent": embedded(joint, gallery, questions, "X_genevae"),
        "frozen, projection": embedded(frozen, gallery, questions, "X_genevae_projected"),
        "bulk, latent": embedded(plain, gallery, questions, "X_genevae"),
        "PCA": (pca.transform(shown), pca.transform(asked)),
        "expression": (shown, asked),
    }
    found = {name: retrieve(*each, gallery.obs, questions.obs) for name, each in sides.items()}
    return {**found, "chance": chance(gallery.obs, questions.obs)}


def as_seen(model: gv.Trained, adata: AnnData) -> np.ndarray:
    """Return expression as the model sees it: log-normalised and standardised over the training profiles."""
    with evaluation_mode(model):
        return np.concatenate([cells.x.dense().numpy() for cells in open_cells(model, adata, None, 512)])


def embedded(model: gv.Trained, gallery: AnnData, questions: AnnData, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of both sides."""
    return gv.embed(model, gallery).obsm[key], gv.embed(model, questions).obsm[key]


def retrieve(shown: np.ndarray, asked: np.ndarray, gallery: pd.DataFrame, questions: pd.DataFrame) -> list:
    """Return top 1 and reciprocal rank of each question, among the pseudobulks of its condition."""
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (asked, shown)]
    similarity = unit[0] @ unit[1].T
    similarity[questions["condition"].to_numpy()[:, None] != gallery["condition"].to_numpy()] = -np.inf
    is_own = questions["donor"].to_numpy().astype(str)[:, None] == gallery["donor"].to_numpy().astype(str)
    ranks = [1 + int((row > row[own & np.isfinite(row)].max(initial=-np.inf)).sum())
             for row, own in zip(similarity, is_own, strict=True)]  # fmt: skip
    return [(float(rank == 1), 1 / rank) for rank in ranks]


def chance(gallery: pd.DataFrame, questions: pd.DataFrame) -> list:
    """Return what a random order of the pseudobulks of its condition gives each question."""
    sizes = [int((gallery["condition"] == condition).sum()) for condition in questions["condition"]]
    return [(1 / size, float(np.mean(1 / np.arange(1, size + 1)))) for size in sizes]


def show(title: str, scores: Scores) -> None:
    """Print the means."""
    print(f"\n{title:<40}{'top 1':>8}{'MRR':>8}{'n':>6}")
    for name, each in scores.items():
        top, mrr = np.mean(each, axis=0)
        print(f"{name:<40}{top:>8.3f}{mrr:>8.3f}{len(each):>6}")


if __name__ == "__main__":
    main()
