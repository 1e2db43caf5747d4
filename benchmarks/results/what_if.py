"""Questions of the kind "what would these cells look like in another condition?", on states that were held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from anndata import AnnData
from benchmarks.real import folder
from benchmarks.results.data import fitted, sampled
from benchmarks.results.jobs import Job, Rows, settings_of
from benchmarks.results.methods import LAST, LatentArithmetic, scvi
from benchmarks.results.settings import MAX_CELLS, MAX_GENES, length_of_ours
from numpy.typing import NDArray

import genevae as gv
from genevae.evaluation.adapters import as_evaluated
from genevae.evaluation.model import dense
from genevae.evaluation.response.scores import Prediction, Truth
from genevae.evaluation.scale import logged
from genevae.io.formats import open_source
from genevae.metrics.distances import E_DISTANCE, e_distance
from genevae.metrics.metric import Metric
from genevae.metrics.principal import Principal
from genevae.metrics.ranking import discrimination
from genevae.metrics.response import SHIFT_COVERAGE, SHIFT_MSE, SHIFT_PEARSON, log_normalised
from genevae.metrics.sampling import subsample
from genevae.preprocessing.hvg import highly_variable
from genevae.tasks.inference import evaluation_mode, open_cells, seeded
from genevae.tasks.response import answers_of

__all__ = [
    "ALONE",
    "CONTROL",
    "CYCLE",
    "DONORS",
    "DOSES",
    "HARMED",
    "PAIRS",
    "REPLICATES",
    "SCORES",
    "SLOPE",
    "TYPES",
    "run_of",
]

TYPES = ("CD4 T", "CD14+ Mono", "FCGR3A+ Mono", "B", "CD8 T", "NK", "DC")
"""Types with at least 80 cells in each condition."""
DONORS = ("1015", "101")
"""Donors with cell types of 20 cells or more in each condition."""
PAIRS = ("KLF1+MAP2K6", "MAP2K3+MAP2K6")
DOSES = ("0.0005", "0.001", "0.01", "0.1", "0.5", "1.0", "5.0", "10.0")
REPLICATES = ("rep_1", "rep_2", "rep_3")
CONTROL = {"condition": "ctrl"}
ALONE, CYCLE = "nb, model alone", "cycle"
LEAST = 20
SAME_TYPE, TRUE = "same type in other donors", "the true cells"

SLOPE = Metric("slope", "closer", 1, "Of the true shift on the predicted one, over genes.")
E_ALL_GENES = Metric(
    "E-distance in all genes", "lower", 0, "As the E-distance, in log-normalised genes, of at most 300 cells of each.",
)  # fmt: skip
HARMED = Metric("harmed", "lower", 0, "Share of the states with a larger squared error than the perturbed mean has.")
SCORES: dict[str, tuple[Metric, str]] = {
    "Pearson-Δ": (SHIFT_PEARSON, ""),
    "E-distance": (E_DISTANCE, ""),
    "E-distance, all genes": (E_ALL_GENES, ""),
    "MSE × 1,000": (SHIFT_MSE, ""),
    "slope": (SLOPE, ""),
    "coverage": (SHIFT_COVERAGE, ""),
}
KNOCK_OUTS = "perturbed mean"
MOST_IN_GENES = 300
"""Cells that distances in all genes are of, at most."""


@dataclass(frozen=True, eq=False)
class State:
    """A state that was held out.

    Parameters
    ----------
    control_n, true_n
        The rows of its control cells, and its own.
    condition
        What is set.
    others
        More predictions of its shift, by name.
    """

    control_n: NDArray[np.bool_]
    true_n: NDArray[np.bool_]
    condition: Mapping[str, str]
    others: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trial:
    """Models, the cells, those that were trained on, and the states that were held out."""

    models: Mapping[str, Any]
    adata: AnnData
    trained_n: NDArray[np.bool_]
    states: Sequence[State]
    seed: int


def run_of(job: Job) -> Rows:
    """Train on all but the held-out states, and score every prediction of them."""
    return _scored(
        {"types": types, "donors": donors, "pairs": pairs, "doses": doses, "knock-outs": knock_outs}[job.question](job)
    )


def types(job: Job) -> Trial:
    """Hold out the stimulated cells of a cell type."""
    sample = sampled("kang_merged", job.seed, hold_out={"cell_type": job.data, "condition": "stim"})
    if job.method == "SCVI":
        model: Any = scvi(sample, job.question, job.quick, ["condition"], ramp=0.25, encode=False, control=CONTROL)[
            LAST
        ]
    elif job.method == "latent arithmetic (scGen)":
        plain = fitted(sample, "nb", job.question, {}, job.quick)
        model = LatentArithmetic(plain, sample.adata, "cell_type", "condition", "ctrl", job.data)
    else:
        options = {"condition": ["condition"], "control": CONTROL, "context": ["cell_type"]}
        if job.method == CYCLE:
            options = {"condition": ["condition", "cell_type"], "control": CONTROL}
        model = fitted(sample, job.method, job.question, settings_of(job), job.quick, **options)
    kind, condition = sample.labels("cell_type"), sample.labels("condition")
    here = kind == job.data
    state = State(here & (condition == "ctrl"), here & (condition == "stim"), {"condition": "stim"})
    return Trial({job.method: model}, sample.adata, _among(sample.split.train, sample.adata), [state], job.seed)


def donors(job: Job) -> Trial:
    """Hold out the stimulated cells of a donor, and score each of the donor's cell types."""
    adata = _read("kang_merged")
    adata = adata[(adata.obs["donor"].astype(str) != "unknown").to_numpy()].copy()
    donor, condition = adata.obs["donor"].astype(str).to_numpy(), adata.obs["condition"].astype(str).to_numpy()
    held_out = (donor == job.data) & (condition == "stim")
    adata, train = _with_genes(adata, ~held_out)
    model = _fit(train, job, condition=["condition"], control=CONTROL, context=["cell_type", "donor"])
    kind, log_ng, rest = adata.obs["cell_type"].astype(str).to_numpy(), log_normalised(adata.X), donor != job.data
    found = []
    for k in TYPES:
        before, after = (log_ng[(kind == k) & rest & (condition == level)].mean(0) for level in ("ctrl", "stim"))
        control_n = (kind == k) & (donor == job.data) & (condition == "ctrl")
        others = {SAME_TYPE: after - before}
        found.append(State(control_n, (kind == k) & held_out, {"condition": "stim"}, others))
    return Trial({job.method: model}, adata, ~held_out, _large(found), job.seed)


def pairs(job: Job) -> Trial:
    """Hold out a combination of two perturbations, both seen alone."""
    adata = _read("pairs_k562_crispra_part")
    level = adata.obs["perturbation"].astype(str).to_numpy()
    held_out = level == job.data
    options = {"condition": ["perturbation"], "control": {"perturbation": "control"}, "combine": ["perturbation"]}
    model = _fit(adata[~held_out].copy(), job, **options)
    state = State(level == "control", held_out, {"perturbation": job.data})
    return Trial({job.method: model}, adata, ~held_out, [state], job.seed)


def doses(job: Job) -> Trial:
    """Hold out a dose between, below or above others."""
    adata = _read("dose_bpaf_mcf7_bulk")
    compound, dose = adata.obs["compound"].astype(str).to_numpy(), adata.obs["dose"].to_numpy(dtype=float)
    held_out = (compound == "BPAF") & np.isclose(dose, float(job.data))
    options = {"condition": ["compound"], "control": {"compound": "control"}, "continuous": ["dose"]}
    model = _fit(adata[~held_out].copy(), job, recipe="dose", **options)
    state = State(compound == "control", held_out, {"compound": "BPAF", "dose": job.data})
    return Trial({job.method: model}, adata, ~held_out, [state], job.seed)


def knock_outs(job: Job) -> Trial:
    """Hold out all knock-outs of a replicate, of which control cells are trained on."""
    adata = _read("papalexi_thp1_sceptre")
    level, replicate = (adata.obs[name].astype(str).to_numpy() for name in ("perturbation", "replicate"))
    control = level == "non-targeting"
    held_out = (replicate == job.data) & ~control
    model = _fit(
        adata[~held_out].copy(), job, condition=["perturbation"], control={"perturbation": "non-targeting"},
        context=["replicate"],
    )  # fmt: skip
    found = [
        State((replicate == job.data) & control, held_out & (level == one), {"perturbation": one})
        for one in sorted(set(level[~control]))
    ]
    return Trial({job.method: model}, adata, ~held_out, _large(found), job.seed)


def _read(name: str) -> AnnData:
    adata = gv.read(folder() / f"{name}.h5ad")
    return adata[subsample(np.ones(adata.n_obs), MAX_CELLS, seed=0)].copy()


def _with_genes(adata: AnnData, train_n: NDArray[np.bool_]) -> tuple[AnnData, AnnData]:
    """Keep the genes that vary most over the training cells; return all cells, and those."""
    genes = highly_variable(open_source(adata), min(MAX_GENES, adata.n_vars), rows=np.flatnonzero(train_n))
    return adata[:, genes].copy(), adata[train_n, genes].copy()


def _fit(train: AnnData, job: Job, recipe: str = "nb", **options: Any) -> gv.Trained:
    setting = {**length_of_ours(job.question, train.n_obs, job.quick), **settings_of(job)}
    return gv.fit(train, recipe, setting=setting, seed=job.seed, device="cpu", progress=False, **options)


def _among(rows: NDArray[np.int64], adata: AnnData) -> NDArray[np.bool_]:
    return np.isin(np.arange(adata.n_obs), rows)


def _large(states: Sequence[State]) -> list[State]:
    return [state for state in states if min(state.control_n.sum(), state.true_n.sum()) >= LEAST]


def _scored(trial: Trial) -> Rows:
    """Return the scores of every row, averaged over the states that all of them predict."""
    log_ng = np.asarray(log_normalised(trial.adata.X))
    some = np.flatnonzero(trial.trained_n)
    space = Principal.fit(log_ng[np.random.default_rng(trial.seed).permutation(some)[:1500]], 50)
    found: dict[str, list[dict[str, float]]] = {}
    shifts: dict[str, list[NDArray[np.float64]]] = {}
    for state in trial.states:
        truth = Truth(log_ng[state.control_n], log_ng[state.true_n], None, space)
        scores = {}
        for name, predicted in _predictions(trial, state, truth):
            scores[name] = _scores(truth, predicted, trial.seed)
            shifts.setdefault(name, []).append(predicted.mean_g - truth.reference_g)
        shifts.setdefault(TRUE, []).append(truth.shift_g)
        if truth.x_ng.shape[0] >= LEAST:
            ceiling = truth.ceiling(trial.seed)
            scores["split halves"] = {
                name: ceiling.get(metric, np.nan) * (1000 if metric is SHIFT_MSE else 1)
                for name, (metric, _) in SCORES.items()
            }
        if KNOCK_OUTS in scores:
            worst = scores[KNOCK_OUTS]["MSE × 1,000"]
            scores = {who: {**each, "harmed": float(each["MSE × 1,000"] > worst)} for who, each in scores.items()}
        for who, each in scores.items():
            found.setdefault(who, []).append(each)
    complete = {who: each for who, each in found.items() if len(each) == len(trial.states)}
    rows = {who: _mean(each) for who, each in complete.items()}
    if KNOCK_OUTS in rows:
        for who in rows.keys() & shifts.keys():
            ranks = discrimination(np.stack(shifts[who]), np.stack(shifts[TRUE]))
            rows[who]["discrimination"] = float(np.mean(ranks))
    return rows


def _predictions(trial: Trial, state: State, truth: Truth) -> Iterator[tuple[str, Prediction]]:
    """Yield the prediction of each model, of our model alone, and of each member of its answer."""
    start = trial.adata[state.control_n].copy()
    for name, shift_g in state.others.items():
        yield name, Prediction.shifted(truth.control_ng, shift_g)
    for name, model in trial.models.items():
        evaluated = as_evaluated(model)
        if evaluated.counterfactual is None:
            raise ValueError(f"{name} has no counterfactual")
        if evaluated.answer is None:
            cells, interval = evaluated.counterfactual(start, state.condition, trial.seed), None
        else:
            cells, interval = evaluated.answer(start, state.condition, trial.seed)
        x_ng = logged(evaluated, cells).astype(np.float64)
        yield name, Prediction(x_ng, x_ng.mean(0), interval)
        if isinstance(model, gv.Trained):
            alone = gv.counterfactual(model, start, condition=state.condition, answer="model", seed=trial.seed)
            x_ng = logged(evaluated, dense(alone.X)).astype(np.float64)
            yield f"{name}, model alone", Prediction(x_ng, x_ng.mean(0))
            with evaluation_mode(model) as module, seeded(module, trial.seed):
                (answer,) = answers_of(model, module, open_cells(model, start, None, 512), state.condition, "auto", 0.9)
            for member, shift_g in answer.answer.members.items() if name != CYCLE else ():
                named = f"{member} (a member)" if member in ("model", "latent arithmetic") else member
                yield named, Prediction.shifted(truth.control_ng, np.asarray(shift_g))


def _scores(truth: Truth, predicted: Prediction, seed: int) -> dict[str, float]:
    few = [x_ng[subsample(np.ones(len(x_ng)), MOST_IN_GENES, seed)] for x_ng in (truth.x_ng, predicted.x_ng)]
    table = {**truth.scores(predicted), E_ALL_GENES: e_distance(*few)}
    shift_g = predicted.mean_g - truth.reference_g
    power = float(shift_g @ shift_g)
    slope = float(shift_g @ truth.shift_g) / power if power else np.nan
    return {
        name: slope if metric is SLOPE else table[metric] * (1000 if metric is SHIFT_MSE else 1)
        for name, (metric, _) in SCORES.items()
    }


def _mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}
