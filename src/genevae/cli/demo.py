"""`genevae demo`: every task on a small real data set, with a baseline beside each number."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markdown import Markdown

import genevae as gv
from genevae.cli.options import say
from genevae.io.atomic import hidden_sibling, replace_with
from genevae.io.overwrite import require_free
from genevae.metrics.denoising import poisson_deviance, thin
from genevae.metrics.labels import accuracy, expected_calibration_error, majority_accuracy
from genevae.metrics.response import pearson, profile
from genevae.plotting.training import agreement_picture, gene_picture, training_picture
from genevae.report.gallery import Gallery, Link, Picture, gallery_page

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["demo"]

LABEL = "cell_type"
HELD_OUT = "CD14+ Monocyte"
MARKERS = ("LYZ", "CD79A", "CD8A", "GNLY", "CST3")
SECTIONS, REPORT_CELLS = ("fit", "latent", "response"), 300
"""Of the report, which is made in seconds."""
PICTURES = (
    Picture("latent.png", "Embed", "The latent of all cells in two dimensions, by cell type, which the model was not "
            "given.", broad=True),
    Picture("what_if.png", "What if", f"Change of each gene of stimulated {HELD_OUT}, predicted without having seen "
            "any, beside the true change."),
    Picture("generated.png", "Generate", "Genes in new cells of a type, beside those of real ones."),
    Picture("denoised.png", "Denoise", "Markers in each type: half of the molecules, what the model makes of them, and "
            "the other half.", broad=True),
    Picture("training.png", "Train", "Loss over epochs, on training cells and on others.", broad=True),
)  # fmt: skip


def demo(*, out: Path, force: bool = False, seed: int = 0) -> None:
    """Run every task on a small real data set: train, embed, classify, generate, denoise; and show what comes out.

    The data are 700 blood cells that scanpy ships. The folder has index.html, which links the report, the explorer and
    the pictures; h5ad files; and a summary with baselines.

    Parameters
    ----------
    out
        The folder to write.
    force
        Replace what is there.
    seed
        Of all random numbers.
    """
    from genevae.report.page import require_jinja

    require_free(out, force, reads=())
    require_jinja()
    draft = hidden_sibling(out)
    draft.mkdir(parents=True)
    try:
        summary = _demo(gv.example("pbmc"), draft, seed)
        (draft / "summary.md").write_text(summary, encoding="utf-8")
        replace_with(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    say(Markdown(summary), f"\nWrote {out}: open {out / 'index.html'} in any browser.")


@dataclass(frozen=True)
class _Models:
    """The cells, their split, and the two models: one without any condition, and one conditioned on the cell type."""

    adata: AnnData
    test_n: Any
    unconditioned: gv.Trained
    conditioned: gv.Trained
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
    unconditioned = gv.fit(adata, recipe="nb", **common)
    conditioned = gv.fit(adata, recipe="nb", condition=[LABEL], **common)
    gv.save(unconditioned, folder / "model")
    gv.save(conditioned, folder / "model_by_cell_type")
    models = _Models(adata, (conditioned.split == "test").to_numpy(), unconditioned, conditioned, folder, seed)
    training_picture(unconditioned.history, unconditioned.facts["best_epoch"], folder / "training.png")
    rows = [*_what_if(folder, seed), *_embed(models), *_classify(models), *_generate(models), *_denoise(models)]
    _show(models, rows)
    return _summary(models, rows)


Row = tuple[str, str, str]
"""A task, the model's number, and the baselines' numbers."""


def _embed(models: _Models) -> list[Row]:
    """Embed all cells, draw them, and predict held-out types from the nearest neighbours in the latent."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import KNeighborsClassifier

    from genevae.plotting.embedding import map_picture

    latent = gv.embed(models.unconditioned, models.adata)
    latent.write_h5ad(models.folder / "latent.h5ad")
    labels = models.adata.obs[LABEL].to_numpy()
    spaces = {"latent": latent.obsm["X_genevae"], "PCA": _pca(models, latent.obsm["X_genevae"].shape[1])}
    scores = {
        name: accuracy(
            labels[models.test_n],
            KNeighborsClassifier(15).fit(z[~models.test_n], labels[~models.test_n]).predict(z[models.test_n]),
        )
        for name, z in spaces.items()
    }
    maps = {
        "PCA of the latent": PCA(2).fit_transform(spaces["latent"]),
        "t-SNE of the latent": TSNE(random_state=models.seed).fit_transform(spaces["latent"]),
    }
    map_picture(maps, list(labels), models.folder / "latent.png")
    majority = majority_accuracy(labels[~models.test_n], labels[models.test_n])
    return [
        (
            "Embed: accuracy of 15 nearest neighbours, held-out cells",
            f"{scores['latent']:.3f}",
            f"PCA of as many dimensions {scores['PCA']:.3f}; commonest type {majority:.3f}",
        )
    ]


def _what_if(folder: Path, seed: int) -> list[Row]:
    """Predict a stimulation of monocytes that no model has seen, beside the mean shift of the other cell types."""
    adata = gv.example("stimulated", seed)
    is_type_n, is_stim_n = (adata.obs[LABEL] == HELD_OUT).to_numpy(), (adata.obs["perturbation"] == "stim").to_numpy()
    model = gv.fit(
        adata[~(is_type_n & is_stim_n)].copy(), condition="perturbation", control="ctrl", context=LABEL, seed=seed
    )
    gv.save(model, folder / "model_what_if")
    controls = adata[is_type_n & ~is_stim_n].copy()
    predicted = gv.counterfactual(model, controls, "stim", seed=seed)
    predicted.write_h5ad(folder / "what_if.h5ad")
    before = profile(controls.X)
    true = profile(adata[is_type_n & is_stim_n].X) - before
    others = [profile(adata[~is_type_n & (is_stim_n == state)].X) for state in (True, False)]
    shift = profile(predicted.X) - before
    title = f"stimulated {HELD_OUT}, never seen"
    agreement_picture({title: (true, shift)}, folder / "what_if.png", "true change", "predicted change")
    return [
        (
            f"What if: correlation over genes of the change of {HELD_OUT}, whose stimulated cells were held out",
            f"{pearson(shift, true):.3f}",
            f"mean change of the other types {pearson(others[0] - others[1], true):.3f}; no change 0.000",
        )
    ]


def _classify(models: _Models) -> list[Row]:
    """Predict the types of held-out cells, beside logistic regression on principal components."""
    from sklearn.linear_model import LogisticRegression

    table = gv.classify(models.conditioned, models.test, field=LABEL, seed=models.seed)
    true = models.test.obs[LABEL].to_numpy()
    table.to_csv(models.folder / "labels.csv", index_label="cell")
    x, labels = _pca(models, 50), models.adata.obs[LABEL].to_numpy()
    regression = LogisticRegression(max_iter=2000).fit(x[~models.test_n], labels[~models.test_n])
    p_nc = regression.predict_proba(x[models.test_n])
    predicted = regression.classes_[p_nc.argmax(1)]
    right, majority = accuracy(true, predicted), majority_accuracy(labels[~models.test_n], true)
    return [
        (
            "Classify: accuracy, held-out cells",
            f"{accuracy(true, table['label']):.3f}",
            f"logistic regression on 50 PCs {right:.3f}; commonest type {majority:.3f}",
        ),
        (
            "Classify: expected calibration error (0 is best)",
            f"{expected_calibration_error(table['label'] == true, table['probability']):.3f}",
            f"logistic regression {expected_calibration_error(predicted == true, p_nc.max(1)):.3f}",
        ),
    ]


def _generate(models: _Models) -> list[Row]:
    """Generate cells of each type, and compare the markers of each type with those of held-out cells."""
    types = sorted(models.adata.obs[LABEL].unique())
    made = gv.generate(models.conditioned, n=200, condition={LABEL: types}, seed=models.seed)
    made.write_h5ad(models.folder / "generated.h5ad")
    common = [name for name in types if (models.test.obs[LABEL] == name).sum() >= 10]
    overall = profile(models.train.X)
    scores: dict[str, list[float]] = {"generated": [], "training cells": []}
    for name in common:
        real = _of(models.test, name) - overall
        scores["generated"].append(pearson(_of(made, name) - overall, real))
        scores["training cells"].append(pearson(_of(models.train, name) - overall, real))
    commonest = models.test.obs[LABEL].value_counts().index[0]
    pair = [_cells(source, commonest) for source in (models.adata, made)]
    agreement_picture(
        {
            f"{commonest}: log mean": (_log_mean(pair[0]), _log_mean(pair[1])),
            f"{commonest}: share of zeros": (_zeros(pair[0]), _zeros(pair[1])),
        },
        models.folder / "generated.png",
    )
    return [
        (
            f"Generate: correlation over genes of what sets a type apart, mean of {len(common)} types, held-out cells",
            f"{np.mean(scores['generated']):.3f}",
            f"the training cells themselves {np.mean(scores['training cells']):.3f}; the mean of all cells 0.000",
        )
    ]


def _denoise(models: _Models) -> list[Row]:
    """Predict half of the molecules of held-out cells from the other half."""
    gv.denoise(models.unconditioned, models.adata, seed=models.seed).write_h5ad(models.folder / "denoised.h5ad")
    seen, held_out = thin(models.test.X, 0.5, models.seed)
    half = models.test.copy()
    half.X = seen
    size_n1 = np.asarray(seen.sum(1))
    mean_g = np.asarray(models.train.X.sum(0)).ravel()
    predicted = {
        "model": gv.denoise(models.unconditioned, half, seed=models.seed).X,
        "mean": size_n1 * mean_g / mean_g.sum(),
        "raw": seen.toarray(),
    }
    loss = {name: poisson_deviance(held_out, x) for name, x in predicted.items()}
    genes = [gene for gene in MARKERS if gene in models.test.var_names]
    at = models.test.var_names.get_indexer(genes)
    panels = {
        "half the molecules": dict(zip(genes, (predicted["raw"] / size_n1)[:, at].T, strict=True)),
        "denoised": dict(zip(genes, (predicted["model"] / size_n1)[:, at].T, strict=True)),
        "the other half": dict(zip(genes, (held_out.toarray() / size_n1)[:, at].T, strict=True)),
    }
    gene_picture(panels, list(models.test.obs[LABEL]), models.folder / "denoised.png")
    return [
        (
            "Denoise: Poisson deviance of held-out molecules, held-out cells (0 is best)",
            f"{loss['model']:.3f}",
            f"mean of the training cells {loss['mean']:.3f}; no denoising {loss['raw']:.3f}",
        )
    ]


def _show(models: _Models, rows: list[Row]) -> None:
    """Write the report and the explorer of the model of stimulation, and the page that links all."""
    from genevae.evaluation.evaluate import write_report

    data, model = gv.example("stimulated", models.seed), gv.load(models.folder / "model_what_if")
    report = gv.evaluate(
        {"stimulation": model}, data, sections=SECTIONS, cells=REPORT_CELLS, seed=models.seed, progress=False
    )
    write_report(report, models.folder / "report")
    gv.explore(model, data, out=models.folder / "explorer.html", seed=models.seed)
    n_test = int(models.test_n.sum())
    gallery = Gallery(
        title="Blood cells, and what they would look like stimulated",
        lead=f"{models.adata.n_obs} blood cells, {models.adata.n_vars} genes, counts (pbmc68k_reduced, Zheng et al. "
        f"2017). {n_test} of the cells were held out of training. The stimulation is simulated, so that the truth is "
        f"known; stimulated cells of {HELD_OUT} were never seen. Recipe nb, seed {models.seed}.",
        links=[
            Link("explorer.html", "Explorer", "Choose cells, stimulate them, see which genes change: the model runs "
                 "in your browser."),
            Link("report/report.html", "Report", "How good the model of stimulation is, every score beside its "
                 "baselines."),
        ],
        columns=["Task", "genevae", "Baselines"],
        rows=rows,
        pictures=PICTURES,
    )  # fmt: skip
    (models.folder / "index.html").write_text(gallery_page(gallery), encoding="utf-8")


def _pca(models: _Models, n: int) -> Any:
    """Return principal components of log-normalised counts, fitted on the training cells."""
    from sklearn.decomposition import PCA

    x = models.adata.X.toarray()
    x = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    return PCA(n, random_state=models.seed).fit(x[~models.test_n]).transform(x)


def _cells(adata: AnnData, label: str) -> Any:
    return adata.X[(adata.obs[LABEL] == label).to_numpy()]


def _of(adata: AnnData, label: str) -> Any:
    return profile(_cells(adata, label))


def _log_mean(x: Any) -> Any:
    return np.log1p(np.asarray(x.mean(0)).ravel())


def _zeros(x: Any) -> Any:
    return 1 - np.asarray((x > 0).mean(0)).ravel()


def _summary(models: _Models, rows: list[Row]) -> str:
    table = "\n".join(f"| {task} | {ours} | {others} |" for task, ours, others in rows)
    n_test = int(models.test_n.sum())
    return f"""# genevae demo

{models.adata.n_obs} blood cells, {models.adata.n_vars} genes, counts (pbmc68k_reduced, Zheng et al. 2017);
{n_test} of the cells were held out of training. Recipe `nb`, seed {models.seed}.

| task | genevae | baselines |
|---|---|---|
{table}

The first row answers “what would these cells look like in another condition?” on cells whose stimulation is simulated,
so that the truth is known (`genevae data example stimulated`).

Two more models were trained. `model` has no condition, so that its latent contains the cell type: it embeds and
denoises. `model_by_cell_type` is conditioned on the type, which its latent need not contain: it classifies and
generates.

| file | what it is |
|---|---|
| `index.html` | all of this as a page, to be shown |
| `report/`, `explorer.html` | the report of the model of stimulation, and a page that runs it |
| `what_if.h5ad`, `what_if.png` | held-out monocytes as if stimulated, and the true change of each gene beside it |
| `training.png` | losses of `model` over epochs |
| `latent.h5ad`, `latent.png` | the latent of each cell |
| `labels.csv` | predicted type of each held-out cell, with probabilities |
| `generated.h5ad`, `generated.png` | 200 new cells of each type, and how they compare |
| `denoised.h5ad`, `denoised.png` | expected counts of each cell; markers from half of its molecules |
"""
