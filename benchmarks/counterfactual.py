"""Counterfactuals beside their baselines, on real counts: `make bench`.

Kang et al. 2018, 2,000 highly variable genes. For one cell type at a time, its stimulated cells are kept away from
training, so that the model saw stimulation in other types only. Two questions:

- *held-out cells*: what would these stimulated cells look like untreated? The model saw such untreated cells.
- *held-out answer*: what would the untreated cells of the type look like stimulated? The model never saw the answer;
  this is the harder question.

Judged: the shift of the mean profile (the mean over cells of log-normalised expression) against the true one, by
Pearson's correlation over genes and by the mean squared error. Baselines: the mean over the other types of their
shifts, and no change. Types with 80 cells in both conditions.

`--profiles` trains nothing: it prints, for two definitions of a profile, how well the mean shift does and where the
ceiling is, from split halves of the stimulated cells.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from anndata import AnnData
from real import kang

import genevae as gv
from genevae.data.sources import open_source
from genevae.data.variable import highly_variable
from genevae.evaluation.baselines import mean_shift
from genevae.evaluation.ceiling import spearman_brown, split_half_ceiling
from genevae.evaluation.response import log_normalised, mean_log_profile, mean_squared_error, pearson, profile

TYPES = ("CD4 T", "CD14+ Mono", "B", "NK")
SCORES = ("Pearson", "mean shift", "no change")
HEADER = f"{'type':<14}" + "".join(f"{name:>12}" for name in (*SCORES, "error", *SCORES[1:]))
QUESTIONS = ("held-out cells: stim → ctrl", "held-out answer: ctrl → stim")


def main() -> None:
    """Print one table for each question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--types", nargs="*", default=TYPES)
    parser.add_argument("--profiles", action="store_true", help="Compare definitions of a profile, and train nothing.")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    adata = kang()
    if arguments.profiles:
        compare_profiles(adata)
        return
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
    told = gv.counterfactual(model, adata[of(adata, name, source)], condition={"condition": target})
    start, end = (mean_log_profile(adata.X[of(adata, name, c)]) for c in (source, target))
    others = [kind for kind in enough(adata) if kind != name]
    usual = mean_shift(
        *({kind: mean_log_profile(adata.X[of(adata, kind, c)]) for kind in others} for c in (source, target))
    )
    shifts = (mean_log_profile(told.layers["draw"]) - start, usual, np.zeros_like(start))
    return [score(shift, end - start) for score in (pearson, mean_squared_error) for shift in shifts]


def compare_profiles(adata: AnnData) -> None:
    """Print the mean shift's correlation and the ceiling, for the mean of logarithms and the logarithm of the mean."""
    adata = adata[:, highly_variable(open_source(adata), 2000)].copy()
    types = enough(adata)
    print(f"{'profile':<24}{'mean shift':>12}{'ceiling':>10}   {len(types)} types, {adata.n_vars:,} genes")
    for title, form in (("mean of the logarithms", mean_log_profile), ("logarithm of the mean", profile)):
        at = {(t, c): form(adata.X[of(adata, t, c)]) for t in types for c in ("ctrl", "stim")}
        rows = []
        for name in types:
            others = [t for t in types if t != name]
            usual = mean_shift(*({t: at[t, c] for t in others} for c in ("ctrl", "stim")))
            ceiling = halves_agree(adata.X[of(adata, name, "stim")], at[name, "ctrl"], form)
            rows.append((pearson(usual, at[name, "stim"] - at[name, "ctrl"]), ceiling))
        print(f"{title:<24}{np.mean(rows, 0)[0]:>12.3f}{np.mean(rows, 0)[1]:>10.3f}")


def halves_agree(x_ng, reference_g: np.ndarray, form) -> float:
    """Return the split-half ceiling of a profile: of the mean of logarithms it is the package's own."""
    if form is mean_log_profile:
        return split_half_ceiling(log_normalised(x_ng), reference_g)
    rng, found = np.random.default_rng(0), []
    for _ in range(10):
        halves = np.array_split(rng.permutation(x_ng.shape[0]), 2)
        found.append(pearson(*(form(x_ng[half]) - reference_g for half in halves)))
    return spearman_brown(float(np.mean(found)))


def of(adata: AnnData, kind: str, condition: str) -> np.ndarray:
    """Say which cells are of one type in one condition."""
    return ((adata.obs["cell_type"] == kind) & (adata.obs["condition"] == condition)).to_numpy()


def enough(adata: AnnData) -> list[str]:
    """Return the types with 80 cells in either condition, so that their shifts are not noise."""
    kinds = adata.obs["cell_type"].unique()
    return [kind for kind in kinds if all(of(adata, kind, c).sum() >= 80 for c in ("ctrl", "stim"))]


if __name__ == "__main__":
    main()
