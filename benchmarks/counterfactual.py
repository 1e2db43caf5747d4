"""Counterfactuals beside their baselines, on real counts: `make bench`.

Kang et al. 2018, 2,000 highly variable genes. For one cell type at a time, its stimulated cells are kept away from
training, so that the model saw stimulation in other types only. Two questions:

- *held-out cells*: what would these stimulated cells look like untreated? The model saw such untreated cells.
- *held-out answer*: what would the untreated cells of the type look like stimulated? The model never saw the answer;
  this is the harder question.

Judged: the shift of the mean profile (log of one plus the mean of counts scaled to 10,000 per cell) against the true
one, by Pearson's correlation over genes and by the mean squared error. Baselines: the mean over the other types of
their shifts, and no change.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from anndata import AnnData
from real import kang

import genevae as gv
from genevae.evaluation.response import mean_shift, pearson, profile

TYPES = ("CD4 T", "CD14+ Mono", "B", "NK")
SCORES = ("Pearson", "mean shift", "no change")
HEADER = f"{'type':<14}" + "".join(f"{name:>12}" for name in (*SCORES, "error", *SCORES[1:]))
QUESTIONS = ("held-out cells: stim → ctrl", "held-out answer: ctrl → stim")


def main() -> None:
    """Print one table for each question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--types", nargs="*", default=TYPES)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    adata = kang()
    answers = [ask(adata, name, arguments.epochs) for name in arguments.types]
    for number, question in enumerate(QUESTIONS):
        print(f"\n{question}")
        print(HEADER)
        rows = [answer[number] for answer in answers]
        for name, numbers in zip([*arguments.types, "mean"], [*rows, np.mean(rows, 0)], strict=True):
            p, p_shift, p_none, e, e_shift, e_none = numbers
            print(f"{name:<14}{p:>12.3f}{p_shift:>12.3f}{p_none:>12.3f}{e:>12.5f}{e_shift:>12.5f}{e_none:>12.5f}")


def ask(adata: AnnData, name: str, epochs: int) -> list[list[float]]:
    """Train without one type's stimulated cells, and judge both questions."""
    model = gv.fit(
        adata,
        recipe="nb",
        condition=["cell_type", "condition"],
        genes=2000,
        epochs=epochs,
        hold_out={"cell_type": name, "condition": "stim"},
        progress=False,
    )
    adata = adata[:, list(model.schema.genes)]
    return [judge(model, adata, name, *ends) for ends in (("stim", "ctrl"), ("ctrl", "stim"))]


def judge(model: gv.Trained, adata: AnnData, name: str, source: str, target: str) -> list[float]:
    """Return Pearson's correlation, then the squared error, of the model, the mean shift and no change."""
    asked = adata[of(adata, name, source)]
    predicted = profile(gv.counterfactual(model, asked, condition={"condition": target}).X)
    start, end = profile(asked.X), profile(adata.X[of(adata, name, target)])
    others = [kind for kind in adata.obs["cell_type"].unique() if kind != name and enough(adata, kind)]
    usual = mean_shift(*({kind: profile(adata.X[of(adata, kind, c)]) for kind in others} for c in (source, target)))
    shifts = (predicted - start, usual, np.zeros_like(start))
    true = end - start
    return [pearson(shift, true) for shift in shifts] + [float(np.mean((shift - true) ** 2)) for shift in shifts]


def of(adata: AnnData, kind: str, condition: str) -> np.ndarray:
    """Say which cells are of one type in one condition."""
    return ((adata.obs["cell_type"] == kind) & (adata.obs["condition"] == condition)).to_numpy()


def enough(adata: AnnData, kind: str) -> bool:
    """Say whether a type has 20 cells in either condition, so that its shift is not noise."""
    return all(of(adata, kind, condition).sum() >= 20 for condition in ("ctrl", "stim"))


if __name__ == "__main__":
    main()
