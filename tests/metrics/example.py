"""A report with every kind of chart, without a model: names that try to run as code, gaps, and many cells."""

from __future__ import annotations

import numpy as np

from genevae.report.records import Bars, Heat, Lines, Map, Points, Score, Section, Verdict
from genevae.report.report import Report

EVIL = "<script>window.harmed = true</script>"
CLOSING = "</script><img src=x onerror='window.harmed = true'>"
TYPES = ["B", "CD4 T", "CD8 T", "CD14+ Mono", "Dendritic", "FCGR3A+ Mono", "Megakaryocytes", "NK"]
RUNS = ["nb", "conditional"]


def example(n_cells: int = 3000, seed: int = 0) -> Report:
    rng = np.random.default_rng(seed)
    return Report(
        data="kang_merged.h5ad",
        runs={name: {"Recipe": name, "Epochs": "60, the best 41", "Cells": "13,000 training"} for name in RUNS},
        training=_training(rng),
        sections=[_latent(rng, n_cells), _response(rng), _labels(rng)],
        skipped={"simulation": f"No run is told {EVIL}."},
        inspection={"Size": "18,868 cells × 2,000 genes", "Columns": f"{EVIL} (2 levels)"},
        findings=[Verdict("Counts, as they should be.", "plain"), Verdict("12 cells are empty.", "mixed")],
        sampling=["2,500 cells that no run was trained on (new).", "They were drawn at random, with seed 0."],
        versions={"genevae": "0.1.0", "torch": "2.13.0"},
        command="genevae evaluate runs/nb runs/conditional kang_merged.h5ad --out report",
    )


def _training(rng: np.random.Generator) -> Section:
    epochs = np.arange(1, 61)
    curves = {
        "training": (epochs, 900 + 400 * np.exp(-epochs / 6) + rng.normal(0, 3, 60)),
        "validation": (epochs, 915 + 380 * np.exp(-epochs / 7) + 0.01 * (epochs - 41.0) ** 2),
    }
    return Section(
        name="training",
        title="Did training go well?",
        verdicts=[Verdict("nb was best after epoch 41 of 60.", "good", "nb", "best epoch 41 of 60")],
        scores=[Score(metric="dead dimensions", who="nb", value=0.0, better="lower")],
        charts=[
            Lines(title="Losses of nb", x_label="epoch", y_label="loss per cell", marks={"best epoch 41": 41},
                  caption="Loss per cell after each epoch.", series=curves, y_range=(890, 1010)),
        ],
    )  # fmt: skip


def _latent(rng: np.random.Generator, n: int) -> Section:
    kind = rng.integers(len(TYPES), size=n)
    drug = rng.integers(2, size=n)
    centres = rng.normal(0, 6, (len(TYPES), 2))
    spaces = {
        f"{title} of {run}": centres[kind] * np.array([turn, 1]) + 0.8 * drug[:, None] + rng.normal(0, 0.9, (n, 2))
        for run, turn in zip(RUNS, (1, -1), strict=True)
        for title in ("UMAP", "PCA", "t-SNE")
    }
    names = np.array(TYPES, dtype=object)
    names[0] = EVIL
    fields = {
        "cell_type": names[kind],
        "condition": np.where(drug, "IFN-β", "control").astype(object),
        "donor": np.array([f"patient {i}" for i in rng.integers(24, size=n)], dtype=object),
        "n_counts": rng.lognormal(7, 0.5, n),
        "doublet": np.where(rng.random(n) < 0.1, None, rng.choice([CLOSING, "singlet"], n)).astype(object),
    }
    return Section(
        name="latent",
        title="Does the latent keep biology and lose batches?",
        verdicts=[
            Verdict(
                "nb keeps cell types apart as well as PCA (silhouette 0.41 against 0.39).",
                "good",
                "nb",
                "0.41 (PCA 0.39)",
            ),
            Verdict(
                "conditional mixes donors less than PCA.", "bad", "conditional", EVIL, "to mix donors, try another"
            ),
        ],
        scores=[
            Score(metric=metric, who=who, value=value, role=role, low=value - 0.02, high=value + 0.02)
            for metric in ("silhouette of cell type", "iLISI of donor")
            for who, role, value in zip([*RUNS, "PCA"], ["run", "run", "baseline"], rng.random(3), strict=True)
        ],
        charts=[Map(title="Cells in the latent", caption="Each dot is a cell.", spaces=spaces, fields=fields)],
        notes=["PCA has as many dimensions as the latent."],
    )


def _response(rng: np.random.Generator) -> Section:
    genes = [f"GENE{i}" for i in range(400)]
    true = rng.normal(0, 1, 400)
    values = {
        who: np.clip(rng.normal(m, 0.05, 8), 0, 1)
        for who, m in zip([*RUNS, "mean shift"], (0.9, 0.8, 0.7), strict=True)
    }
    roles = {"mean shift": "baseline", "split halves": "ceiling"}
    series = {**{k: v.tolist() for k, v in values.items()}, "split halves": [0.96] * 8}
    return Section(
        name="response",
        title="Does it foretell what the perturbation does?",
        verdicts=[
            Verdict("nb beats the mean shift on 8 of 8 cell types.", "good", "nb", "0.90 (mean shift 0.70)"),
            Verdict("It loses on DC.", "mixed"),
        ],
        scores=[
            Score(metric="Pearson of the shift", who=who, of=kind, value=v, role=roles.get(who, "run"),
                  low=v - 0.03, high=v + 0.02)
            for who, row in series.items()
            for kind, v in zip(TYPES, row, strict=True)
        ],
        charts=[
            Bars(title="Pearson of the shift", names=TYPES, series=series, x_label="correlation over genes",
                 caption="Higher is better. The ceiling is what two halves of the data reach.",
                 intervals={"nb": ([v - 0.03 for v in series["nb"]], [v + 0.02 for v in series["nb"]])}),
            Points(title="Predicted and true response", x=true, y=true * 0.8 + rng.normal(0, 0.3, 400), names=genes,
                   highlighted=genes[:6], x_label="true shift", y_label="predicted shift",
                   caption="Each dot is a gene; the names are the worst."),
        ],
    )  # fmt: skip


def _labels(rng: np.random.Generator) -> Section:
    confusion = np.eye(8) * 0.8 + rng.random((8, 8)) * 0.1
    p = np.linspace(0, 1, 11)
    return Section(
        name="labels",
        title="Are its labels right, and its probabilities honest?",
        verdicts=[Verdict("Accuracy 0.91, as good as logistic regression.", "mixed")],
        scores=[Score(metric="calibration error", who="nb", value=float("nan"), better="lower")],
        charts=[
            Heat(title="Which types are taken for which", rows=TYPES, columns=TYPES, values=confusion,
                 row_label="true", column_label="told", caption="Shares of each row."),
            Heat(title="Change", rows=TYPES[:5], columns=TYPES, values=rng.normal(0, 1, (5, 8)), diverging=True),
            Lines(title="Calibration", x_label="promised", y_label="kept",
                  series={"nb": (p, p**1.1), "conditional": (p, p**0.8)}, diagonal=True),
        ],
    )  # fmt: skip
