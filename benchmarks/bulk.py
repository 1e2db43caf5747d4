"""Bulk expression: `bulk` beside PCA, the gene mean and nearest neighbours, on tissues of studies it never saw.

GTEx and TCGA (bulk_gtex_tcga_rnaseqdb), the tissues that two projects or more have. One project of each tissue is held
out, so that no study is on both sides; fold 0 holds out the first project of each tissue by name, fold 1 the second.
Everything is fitted on the other projects: the most variable genes, the scaling, PCA, and the model. The default,
2,000 genes, is what two busy cores do in minutes; `--genes 5000` is the same with more.

Asked, of the held-out samples, in units of a gene's standard deviation over the training samples:

- R²: of each gene's variance over held-out samples, what reconstruction explains; the median over genes. It is below
  zero where a study's offset is not followed.
- error, and error of hidden entries: mean squared error of reconstruction, and of 15 % of all entries that were hidden;
  the gene mean's is about one or more. Neighbours: the mean of the 10 training samples that are nearest by what is not
  hidden. PCA sees the gene's mean in place of what is hidden.
- tissue: by the 15 nearest training samples, in the latent; beside the commonest tissue.
- silhouette and Calinski-Harabasz score of tissues among the held-out samples, in the latent.

Then genes: whether two genes are in one Hallmark set, told by their similarity (AUROC over all pairs of genes that are
in any set; 0.5 is chance; and the share of pairs of one set among the 5 % most alike): cosine of the decoder's
vectors, of PCA loadings times their standard deviations, of the latents of a model trained on genes × samples; and
Pearson's correlation. Target: to beat both baselines.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from anndata import AnnData
from real import folder
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import genevae as gv
from genevae.io.gmt import read_gene_sets
from genevae.metrics.gene_sets import co_membership, in_sets, members_of, similarity
from genevae.metrics.labels import majority_accuracy
from genevae.metrics.latent import calinski_harabasz, silhouette_n
from genevae.objectives.masking import mask_genes
from genevae.tasks.inference import evaluation_mode, open_cells

HIDDEN = 0.15
SCORES = ("R²", "error", "hidden", "tissue", "silhouette", "C-H")


def main() -> None:
    """Print a table of samples for each fold, and one of genes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--setting", nargs="*", default=[], help="of the recipe, as NAME=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setting = dict(word.split("=", 1) for word in arguments.setting)
    adata = gv.read(folder() / "bulk_gtex_tcga_rnaseqdb.h5ad")
    for fold in arguments.folds:
        train, test = split(adata, fold, arguments.genes)
        started = time.perf_counter()
        model = gv.fit(train, recipe="bulk", epochs=arguments.epochs, setting=setting, progress=False, device="cpu")
        seconds = time.perf_counter() - started
        held_out = ", ".join(sorted(test.obs["project"].unique()))
        print(f"\nfold {fold}: {train.n_obs} training samples, {test.n_obs} of {held_out}; {train.n_vars:,} genes; "
              f"{len(model.history)} epochs in {seconds:.0f} s, the best was {model.facts['best_epoch']}")  # fmt: skip
        print_samples(model, train, test)
    print_genes(model, train, arguments.epochs)


def split(adata: AnnData, fold: int, n_genes: int) -> tuple[AnnData, AnnData]:
    """Hold out one project of each tissue that two have, and keep the most variable genes of the others."""
    projects = adata.obs.groupby("tissue", observed=True)["project"].agg(lambda p: sorted(p.unique()))
    shared = projects[projects.map(len) > 1]
    adata = adata[adata.obs["tissue"].isin(shared.index).to_numpy()]
    is_test = adata.obs["project"].isin([names[fold % len(names)] for names in shared]).to_numpy()
    train = adata[~is_test]
    genes = np.sort(np.argsort(-logged(train).var(0))[:n_genes])
    return train[:, genes].copy(), adata[is_test][:, genes].copy()


def logged(adata: AnnData) -> np.ndarray:
    """Return log(1 + counts per million)."""
    return np.log1p(1e6 * adata.X / adata.X.sum(1, keepdims=True))


def print_samples(model: gv.Trained, train: AnnData, test: AnnData) -> None:
    """Print what the model and its baselines make of the held-out samples."""
    seen, asked, is_hidden, ours = through_model(model, train, test)
    pca = PCA(model.recipe.n_latent, random_state=0).fit(seen)
    answers = {
        "bulk": ours,
        "PCA": (pca.transform(seen), pca.transform(asked), *(pca.inverse_transform(pca.transform(x))
                for x in (asked, np.where(is_hidden, 0, asked)))),
    }  # fmt: skip
    print(f"{'':<12}" + "".join(f"{name:>12}" for name in SCORES))
    for name, answer in answers.items():
        print(f"{name:<12}" + "".join(f"{score:>12.3f}" for score in judge(*answer, asked, is_hidden, train, test)))
    for name, guess in (("neighbours", neighbours(seen, asked, is_hidden)), ("gene mean", np.zeros_like(asked))):
        print(f"{name:<12}{'':>24}{np.mean((guess - asked)[is_hidden] ** 2):>12.3f}")
    print(f"{'commonest':<12}{'':>36}{majority_accuracy(train.obs['tissue'], test.obs['tissue']):>12.3f}")


def through_model(model: gv.Trained, train: AnnData, test: AnnData) -> tuple[np.ndarray, ...]:
    """Return expression as the model sees it, what was hidden, and its latents and reconstructions."""
    with evaluation_mode(model) as module:
        (seen,), (asked,) = (open_cells(model, each, None, 10_000) for each in (train, test))
        torch.manual_seed(0)
        partly = mask_genes(asked, HIDDEN)
        z_train, z_test, z_partly = (module.posterior(cells).mean for cells in (seen, asked, partly))
        whole, partial = (module.likelihood(z, asked.condition).mean for z in (z_test, z_partly))
    is_hidden = ~partly.condition.measured_ng.numpy()
    ours = tuple(each.numpy() for each in (z_train, z_test, whole, partial))
    return seen.x.dense().numpy(), asked.x.dense().numpy(), is_hidden, ours


def judge(z_train, z_test, whole, partial, asked, is_hidden, train, test) -> list[float]:
    """Return the scores of latents and reconstructions."""
    variance_g = np.maximum(asked.var(0), 1e-9)
    tissues = test.obs["tissue"].astype(str)
    return [
        float(np.median(1 - ((whole - asked) ** 2).mean(0) / variance_g)),
        float(np.mean((whole - asked) ** 2)),
        float(np.mean((partial - asked)[is_hidden] ** 2)),
        KNeighborsClassifier(15).fit(z_train, train.obs["tissue"].astype(str)).score(z_test, tissues),
        float(silhouette_n(z_test, tissues).mean()),
        calinski_harabasz(z_test, tissues),
    ]


def neighbours(seen: np.ndarray, asked: np.ndarray, is_hidden: np.ndarray, k: int = 10) -> np.ndarray:
    """Return the mean of the training samples that are nearest by the entries that are not hidden."""
    shown = ~is_hidden
    distance = shown @ (seen**2).T - 2 * np.where(shown, asked, 0) @ seen.T
    return seen[np.argpartition(distance, k, axis=1)[:, :k]].mean(1)


def print_genes(model: gv.Trained, train: AnnData, epochs: int) -> None:
    """Print how well genes of one Hallmark set are told from others."""
    sets = read_gene_sets(folder() / "annot" / "human_hallmark_v2025.gmt").values()
    genes = [train.var_names[place] for place in members_of(train.var_names, sets)]
    member_gs = in_sets(genes, sets)
    at = train.var_names.get_indexer(genes)
    x = logged(train)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    pca = PCA(model.recipe.n_latent, random_state=0).fit(x)
    transposed = AnnData((x.T).astype(np.float32), obs=train.var[[]], var=train.obs[[]])
    of_genes = gv.fit(transposed, recipe="bulk", epochs=max(5, epochs // 10), progress=False, device="cpu")
    vectors = {
        "decoder": gv.gene_embeddings(model, neighbours=0).obsm["X_genevae"],
        "genes × samples": gv.embed(of_genes, transposed).obsm["X_genevae"],
        "PCA loadings": pca.components_.T * pca.singular_values_,
        "Pearson": x.T,
    }
    print(f"\n{len(genes)} genes in Hallmark sets, told by all pairs: AUROC (0.5 by chance), recall at 5 % (0.05)")
    for name, vector in vectors.items():
        found = co_membership(similarity(vector[at]), member_gs)
        print(f"{name:<18}{found.auroc:.3f}{found.recall:>8.3f}")


if __name__ == "__main__":
    main()
