"""Which type a cell is of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from benchmarks.results import peers
from benchmarks.results.data import Sample, fitted, logged, sampled
from benchmarks.results.jobs import Job, Rows, settings_of
from benchmarks.results.numbers import shown, told
from benchmarks.results.table import Verdict, table
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import genevae as gv
from genevae.metrics.labels import accuracy, expected_calibration_error, macro_f1
from genevae.metrics.principal import Principal

__all__ = ["NAME", "jobs", "run", "section"]

NAME = "labels"
TYPE = "cell_type"
SETS: dict[str, tuple[str, ...]] = {"kang_merged": ("condition",), "pbmc68k_reduced_counts": ()}
"""Each data set, and what models are told besides the type."""
OURS = ("nb", "conditional")
FREE = "nb without types"
METHODS = ("SCANVI", *OURS, FREE, "logistic regression", "neighbours", "commonest type")
N_COMPONENTS, N_NEIGHBOURS = 50, 15

Answer = tuple[NDArray[Any], NDArray[np.float64] | None]
"""Labels, and how probable they were said to be."""


def jobs(seed: int, quick: bool) -> list[Job]:
    """Return every method on every data set."""
    return [Job(NAME, data, method, seed, quick) for data in SETS for method in METHODS]


def run(job: Job) -> Rows:
    """Tell the types of the held-out cells."""
    sample = sampled(job.data, job.seed, stratify=TYPE)
    true_n = sample.labels(TYPE)[sample.split.test]
    label_n, probability_n = answer(job, sample)
    scores = {"accuracy": accuracy(true_n, label_n), "macro-F1": macro_f1(true_n, label_n)}
    if probability_n is not None:
        scores["ECE"] = expected_calibration_error(true_n == label_n, probability_n, 15)
    return {job.method: scores}


def answer(job: Job, sample: Sample) -> Answer:
    """Tell the types by one method."""
    fields = SETS[job.data]
    if job.method in OURS:
        model = fitted(sample, job.method, NAME, settings_of(job), job.quick, condition=[TYPE, *fields])
        table = gv.classify(model, sample.test, field=TYPE)
        return table["label"].to_numpy(), table["probability"].to_numpy()
    if job.method == "SCANVI":
        soft = peers.scanvi(sample, NAME, job.quick, TYPE, fields, hide_test=True).predict(
            indices=sample.split.test, soft=True
        )
        return soft.columns.to_numpy()[soft.to_numpy().argmax(1)], soft.to_numpy().max(1)
    return by_classifier(job, sample)


def by_classifier(job: Job, sample: Sample) -> Answer:
    """Tell the types by a classifier on principal components, or on the latent of a model that was not told them."""
    seen = np.union1d(sample.split.train, sample.split.validation)
    label_n, test = sample.labels(TYPE), sample.split.test
    if job.method == "commonest type":
        names, counts = np.unique(label_n[seen], return_counts=True)
        return np.full(len(test), names[counts.argmax()]), None
    if job.method == FREE:
        free = fitted(sample, "nb", NAME, settings_of(job), job.quick, condition=SETS[job.data])
        z_nk = gv.embed(free, sample.adata).obsm["X_genevae"]
    else:
        x_ng = logged(sample.counts_ng)
        z_nk = Principal.fit(x_ng[seen], N_COMPONENTS, job.seed).embed(x_ng)
    is_regression = job.method == "logistic regression"
    classifier: Any = LogisticRegression(max_iter=5000) if is_regression else KNeighborsClassifier(N_NEIGHBOURS)
    p_nc = classifier.fit(z_nk[seen], label_n[seen]).predict_proba(z_nk[test])
    return classifier.classes_[p_nc.argmax(1)], p_nc.max(1)


def section(found: pd.DataFrame) -> tuple[list[str], list[Verdict]]:
    """Write a table for each data set."""
    lines, verdicts = [INTRODUCTION, ""], []
    for data in [name for name in SETS if name in set(found["data"])]:
        theirs = told(found, "SCANVI", "accuracy", data).mean()
        best = max(told(found, name, "accuracy", data).mean() for name in OURS)
        verdicts.append(Verdict(data, bool(best >= theirs)))
        rows = []
        for name in (*OURS, FREE, "SCANVI", "logistic regression", "neighbours", "commonest type"):
            words = [shown(told(found, name, score, data)) for score in ("accuracy", "macro-F1", "ECE")]
            if name in OURS and told(found, name, "accuracy", data).mean() < theirs:
                words[0] = f"**{words[0]}**, behind SCANVI"
            rows.append([name, *words])
        lines += [*table([data, "accuracy", "macro-F1", "calibration error"], rows), ""]
    return lines, verdicts


INTRODUCTION = (
    "Cell types of the held-out 20 %, stratified. `nb` and `conditional` are conditioned on the type and asked by "
    "`genevae classify`; *nb without types*: the 15 nearest neighbours in the latent of a model that was not told "
    f"them; SCANVI is told the types of the training cells; the classifiers see {N_COMPONENTS} principal components. "
    "Calibration error: expected, over 15 bins. Target: the better of `nb` and `conditional` against SCANVI."
)
