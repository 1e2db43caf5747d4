"""`genevae demo`: every task on a small real data set, with a baseline beside each number."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich import print as say
from rich.markdown import Markdown

import genevae as gv
from genevae.errors import DataError
from genevae.io.atomic import hidden_sibling, replace_with, require_free
from genevae.metrics.denoising import poisson_deviance, thin
from genevae.metrics.labels import accuracy, expected_calibration_error, majority_accuracy
from genevae.metrics.response import pearson, profile
from genevae.plotting.training import agreement_picture, gene_picture, map_picture, training_picture

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["demo", "pbmc68k"]

LABEL = "cell_type"
MARKERS = ("LYZ", "CD79A", "CD8A", "GNLY", "CST3")


def demo(*, out: Path, force: bool = False, seed: int = 0) -> None:
    """Do everything once on a small real data set: train, embed, classify, generate, denoise.

    700 blood cells that scanpy ships; pictures, h5ad files and a summary with baselines are left in a folder.

    Parameters
    ----------
    out
        The folder to write.
    force
        Replace what is there.
    seed
        Of everything.
    """
    require_free(out, force, marks=["summary.md"])
    draft = hidden_sibling(out)
    draft.mkdir(parents=True)
    try:
        summary = _demo(pbmc68k(), draft, seed)
        (draft / "summary.md").write_text(summary, encoding="utf-8")
        replace_with(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    say(Markdown(summary), f"\nWrote {out}: open {out / 'summary.md'} and the pictures beside it.")


def pbmc68k() -> AnnData:
    """Return 700 blood cells with 765 genes and integer counts, from the file inside scanpy's wheel.

    The file holds log(1 + counts · 10,000 / n_counts); undoing that gives the counts back.

    Raises
    ------
    DataError
        If scanpy is not installed.

    References
    ----------
    Zheng et al., Nature Communications 8:14049 (2017).
    """
    import importlib.util

    from anndata import AnnData
    from scipy.sparse import csr_matrix

    found = importlib.util.find_spec("scanpy")
    if found is None or found.origin is None:
        raise DataError("The demo's data come with scanpy, which is not installed: pip install 'genevae[demo]'.")
    shipped = gv.read(Path(found.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad")
    size_n1 = shipped.obs["n_counts"].to_numpy()[:, None]
    counts = np.rint(np.expm1(shipped.raw.X.toarray()) * size_n1 / 1e4).astype(np.float32)
    obs = pd.DataFrame({LABEL: shipped.obs["bulk_labels"].astype(str)}, index=shipped.obs_names.astype(str))
    adata = AnnData(csr_matrix(counts), obs=obs)
    adata.var_names = shipped.raw.var_names
    return adata


@dataclass(frozen=True)
class _Bench:
    """The cells, their split, and the two models: one that is not told the cell type, and one that is."""

    adata: AnnData
    test_n: Any
    free: gv.Trained
    told: gv.Trained
    folder: Path
    seed: int

    @property
    def train(self) -> AnnData:
        return self.adata[~self.test_n]

    @property
    def test(self) -> AnnData:
        return self.adata[self.test_n]


def _demo(adata: AnnData, folder: Path, seed: int) -> str:
    common: dict[str, Any] = {"test": 0.25, "stratify": LABEL, "seed": seed, "setting": {"dropout": 0.2}}
    free = gv.fit(adata, recipe="nb", **common)
    told = gv.fit(adata, recipe="nb", condition=[LABEL], **common)
    gv.save(free, folder / "model")
    gv.save(told, folder / "model_by_cell_type")
    bench = _Bench(adata, (told.split == "test").to_numpy(), free, told, folder, seed)
    training_picture(free.history, free.facts["best_epoch"], folder / "training.png")
    rows = [*_embed(bench), *_classify(bench), *_generate(bench), *_denoise(bench)]
    return _summary(bench, rows)


Row = tuple[str, str, str]
"""A question, the model's number, and the baselines' numbers."""


def _embed(bench: _Bench) -> list[Row]:
    """Embed all cells, draw them, and ask a nearest-neighbour classifier to tell held-out types from the latent."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import KNeighborsClassifier

    latent = gv.embed(bench.free, bench.adata)
    latent.write_h5ad(bench.folder / "latent.h5ad")
    labels = bench.adata.obs[LABEL].to_numpy()
    spaces = {"latent": latent.obsm["X_genevae"], "PCA": _pca(bench, latent.obsm["X_genevae"].shape[1])}
    scores = {
        name: accuracy(
            labels[bench.test_n],
            KNeighborsClassifier(15).fit(z[~bench.test_n], labels[~bench.test_n]).predict(z[bench.test_n]),
        )
        for name, z in spaces.items()
    }
    maps = {
        "PCA of the latent": PCA(2).fit_transform(spaces["latent"]),
        "t-SNE of the latent": TSNE(random_state=bench.seed).fit_transform(spaces["latent"]),
    }
    map_picture(maps, list(labels), bench.folder / "latent.png")
    majority = majority_accuracy(labels[~bench.test_n], labels[bench.test_n])
    return [
        (
            "Embed: accuracy of 15 nearest neighbours, held-out cells",
            f"{scores['latent']:.3f}",
            f"PCA of as many dimensions {scores['PCA']:.3f}; commonest type {majority:.3f}",
        )
    ]


def _classify(bench: _Bench) -> list[Row]:
    """Tell the held-out cells' types, beside logistic regression on principal components."""
    from sklearn.linear_model import LogisticRegression

    table = gv.classify(bench.told, bench.test, field=LABEL, seed=bench.seed)
    true = bench.test.obs[LABEL].to_numpy()
    table.insert(0, "true", true)
    table.to_csv(bench.folder / "labels.csv", index_label="cell")
    x, labels = _pca(bench, 50), bench.adata.obs[LABEL].to_numpy()
    regression = LogisticRegression(max_iter=2000).fit(x[~bench.test_n], labels[~bench.test_n])
    p_nc = regression.predict_proba(x[bench.test_n])
    told = regression.classes_[p_nc.argmax(1)]
    right, majority = accuracy(true, told), majority_accuracy(labels[~bench.test_n], true)
    return [
        (
            "Classify: accuracy, held-out cells",
            f"{accuracy(true, table['label']):.3f}",
            f"logistic regression on 50 PCs {right:.3f}; commonest type {majority:.3f}",
        ),
        (
            "Classify: expected calibration error (0 is best)",
            f"{expected_calibration_error(table['label'] == true, table['probability']):.3f}",
            f"logistic regression {expected_calibration_error(told == true, p_nc.max(1)):.3f}",
        ),
    ]


def _generate(bench: _Bench) -> list[Row]:
    """Generate cells of each type, and compare what sets each type apart with held-out cells of it."""
    types = sorted(bench.adata.obs[LABEL].unique())
    made = gv.generate(bench.told, n=200, condition={LABEL: types}, seed=bench.seed)
    made.write_h5ad(bench.folder / "generated.h5ad")
    common = [name for name in types if (bench.test.obs[LABEL] == name).sum() >= 10]
    overall = profile(bench.train.X)
    scores: dict[str, list[float]] = {"generated": [], "training cells": []}
    for name in common:
        real = _of(bench.test, name) - overall
        scores["generated"].append(pearson(_of(made, name) - overall, real))
        scores["training cells"].append(pearson(_of(bench.train, name) - overall, real))
    commonest = bench.test.obs[LABEL].value_counts().index[0]
    pair = [_cells(source, commonest) for source in (bench.adata, made)]
    agreement_picture(
        {
            f"{commonest}: log mean": (_log_mean(pair[0]), _log_mean(pair[1])),
            f"{commonest}: share of zeros": (_zeros(pair[0]), _zeros(pair[1])),
        },
        bench.folder / "generated.png",
    )
    return [
        (
            f"Generate: correlation over genes of what sets a type apart, mean of {len(common)} types, held-out cells",
            f"{np.mean(scores['generated']):.3f}",
            f"the training cells themselves {np.mean(scores['training cells']):.3f}; the mean of all cells 0.000",
        )
    ]


def _denoise(bench: _Bench) -> list[Row]:
    """Hide half of the molecules of held-out cells, and ask for them back from the other half."""
    gv.denoise(bench.free, bench.adata, seed=bench.seed).write_h5ad(bench.folder / "denoised.h5ad")
    seen, hidden = thin(bench.test.X, 0.5, bench.seed)
    half = bench.test.copy()
    half.X = seen
    size_n1 = np.asarray(seen.sum(1))
    mean_g = np.asarray(bench.train.X.sum(0)).ravel()
    told = {
        "model": gv.denoise(bench.free, half, seed=bench.seed).X,
        "mean": size_n1 * mean_g / mean_g.sum(),
        "raw": seen.toarray(),
    }
    loss = {name: poisson_deviance(hidden, x) for name, x in told.items()}
    genes = [gene for gene in MARKERS if gene in bench.test.var_names]
    at = bench.test.var_names.get_indexer(genes)
    panels = {
        "half the molecules": dict(zip(genes, (told["raw"] / size_n1)[:, at].T, strict=True)),
        "denoised": dict(zip(genes, (told["model"] / size_n1)[:, at].T, strict=True)),
        "the other half": dict(zip(genes, (hidden.toarray() / size_n1)[:, at].T, strict=True)),
    }
    gene_picture(panels, list(bench.test.obs[LABEL]), bench.folder / "denoised.png")
    return [
        (
            "Denoise: Poisson deviance of hidden molecules, held-out cells (0 is best)",
            f"{loss['model']:.3f}",
            f"mean of the training cells {loss['mean']:.3f}; no denoising {loss['raw']:.3f}",
        )
    ]


def _pca(bench: _Bench, n: int) -> Any:
    """Return principal components of log-normalised counts, fitted on the training cells."""
    from sklearn.decomposition import PCA

    x = bench.adata.X.toarray()
    x = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    return PCA(n, random_state=bench.seed).fit(x[~bench.test_n]).transform(x)


def _cells(adata: AnnData, label: str) -> Any:
    return adata.X[(adata.obs[LABEL] == label).to_numpy()]


def _of(adata: AnnData, label: str) -> Any:
    return profile(_cells(adata, label))


def _log_mean(x: Any) -> Any:
    return np.log1p(np.asarray(x.mean(0)).ravel())


def _zeros(x: Any) -> Any:
    return 1 - np.asarray((x > 0).mean(0)).ravel()


def _summary(bench: _Bench, rows: list[Row]) -> str:
    table = "\n".join(f"| {question} | {ours} | {others} |" for question, ours, others in rows)
    n_test = int(bench.test_n.sum())
    return f"""# genevae demo

{bench.adata.n_obs} blood cells, {bench.adata.n_vars} genes, counts (pbmc68k_reduced, Zheng et al. 2017);
{n_test} of the cells were kept away from training. Recipe `nb`, seed {bench.seed}.

| question | genevae | baselines |
|---|---|---|
{table}

Two models were trained. `model` is not told the cell type, so that its latent holds it: it embeds and denoises.
`model_by_cell_type` is told the type, and so its latent need not hold it: it classifies and generates.

| file | what it is |
|---|---|
| `training.png` | losses of `model` over epochs |
| `latent.h5ad`, `latent.png` | where each cell lies |
| `labels.csv` | the type told of each held-out cell, with probabilities |
| `generated.h5ad`, `generated.png` | 200 new cells of each type, and how they compare |
| `denoised.h5ad`, `denoised.png` | expected counts of each cell; markers from half of its molecules |
"""
