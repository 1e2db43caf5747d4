"""What people come from scvi-tools for, beside scvi-tools and a simple baseline, on real data.

``python -m benchmarks.peers --only map`` prints the rows of one part of the table in ``docs/reference/peers.md``. It
needs the extra ``bench``, and the data sets in the folder ``GENEVAE_DATA``.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from benchmarks.embedding import gene_vectors
from scipy import sparse
from scipy.stats import false_discovery_control, mannwhitneyu, ttest_ind
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import genevae as gv
from genevae.io.gmt import read_gene_sets
from genevae.tasks.inference import evaluation_mode, open_cells, seeded
from genevae.tasks.response import answers_of

SEED, N_GENES, N_NEIGHBOURS, LEAST, N_SEEDS = 0, 2000, 15, 12, 1
MOST_CELLS = 200
"""Cells of each knock-out that are trained on, at most."""
Row = dict[str, Any]
RATE: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 128}
CONSTANT: dict[str, Any] = {"learning_rate_decay": 0.0}
"""The optimiser of all recipes here, a constant rate, as in scvi-tools; the number of epochs is given too."""


def data(name: str) -> ad.AnnData:
    """Open a data set."""
    return ad.read_h5ad(Path(os.environ["GENEVAE_DATA"]) / f"{name}.h5ad")


def logged(adata: ad.AnnData) -> np.ndarray:
    """Return log(1 + counts per 10,000)."""
    x_ng = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    return np.log1p(1e4 * x_ng / np.maximum(x_ng.sum(1, keepdims=True), 1))


def mapping() -> Iterator[Row]:
    """Map one technology to two others, and one batch to four: accuracy of labels, scIB of all cells, seconds."""
    for name, label, query in (
        ("pbmc_3tech_symphony", "cell_type_broad", "5p"),
        ("mixology_celllines", "cell_line", "sc_dropseq"),
    ):
        adata = data(name)
        adata.obs["label"], adata.obs["batch"] = adata.obs[label].astype(str), adata.obs["batch"].astype(str)
        is_query = (adata.obs["batch"] == query).to_numpy()
        known, new = adata[~is_query].copy(), adata[is_query].copy()
        genes = list(gv.highly_variable(known, N_GENES)) if adata.n_vars > N_GENES else list(adata.var_names)
        known, new = known[:, genes].copy(), new[:, genes].copy()
        kept = np.sort(np.random.default_rng(SEED).permutation(len(genes))[: len(genes) // 2])
        half = new[:, kept].copy()
        plain = PCA(30, random_state=SEED).fit_transform(logged(ad.concat([known, new])))
        for method in (_map_ours, _map_scvi, _map_pca):
            started = time.perf_counter()
            place, mapper = method(known)
            fitted = time.perf_counter()
            labels, z_nk = mapper(new)
            mapped = time.perf_counter()
            few, _ = mapper(half)
            scores = gv.metrics.integration_scores(
                np.concatenate([place(), z_nk]),
                np.concatenate([known.obs["label"], new.obs["label"]]),
                np.concatenate([known.obs["batch"], new.obs["batch"]]),
                plain,
            )
            truth = new.obs["label"].to_numpy()
            yield {
                "data": name, "method": method.__doc__, "accuracy": np.mean(labels == truth),
                "accuracy, half of the genes": np.mean(few == truth), "scIB total": scores["Total"],
                "seconds to train": fitted - started, "seconds to map": mapped - fitted,
            }  # fmt: skip


Mapper = Callable[[ad.AnnData], tuple[np.ndarray, np.ndarray]]


def _map_ours(known: ad.AnnData) -> tuple[Callable[[], np.ndarray], Mapper]:
    """genevae"""  # noqa: D400, D403 - the name in the table
    model = gv.fit(
        known,
        "adversarial",
        batch="batch",
        condition="label",
        setting={**CONSTANT, "category_dropout": 0.1},
        epochs=60,
        folds=0,
        **RATE,
    )

    def mapped(query: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
        found = gv.map_query(model, query, threshold=0.0, unknown_above=1.0).query
        return found.obs["label_predicted"].to_numpy(), np.asarray(found.obsm["X_genevae"])

    return lambda: np.asarray(gv.embed(model, known).obsm["X_genevae"]), mapped


def _map_scvi(known: ad.AnnData) -> tuple[Callable[[], np.ndarray], Mapper]:
    """scVI with the surgery of scArches, and neighbours"""  # noqa: D400, D403 - the name in the table
    from scvi.model import SCVI

    known = known.copy()
    SCVI.setup_anndata(known, batch_key="batch")
    model = SCVI(
        known, n_layers=2, use_layer_norm="both", use_batch_norm="none", encode_covariates=True, dropout_rate=0.2
    )
    model.train(max_epochs=200, early_stopping=True)
    z_nk = model.get_latent_representation()

    def mapped(query: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
        query = query.copy()
        SCVI.prepare_query_anndata(query, model)
        surgery = SCVI.load_query_data(query, model)
        surgery.train(max_epochs=200, plan_kwargs={"weight_decay": 0.0})
        place = surgery.get_latent_representation()
        return _nearest(z_nk, known, place), place

    return lambda: z_nk, mapped


def _map_pca(known: ad.AnnData) -> tuple[Callable[[], np.ndarray], Mapper]:
    """PCA and neighbours"""  # noqa: D400 - the name in the table
    components = PCA(30, random_state=SEED).fit(logged(known))
    z_nk = components.transform(logged(known))

    def mapped(query: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
        x_ng = pd.DataFrame(logged(query), columns=query.var_names)
        place = components.transform(x_ng.reindex(columns=known.var_names, fill_value=0.0).to_numpy())
        return _nearest(z_nk, known, place), place

    return lambda: z_nk, mapped


def _nearest(z_nk: np.ndarray, known: ad.AnnData, place: np.ndarray) -> np.ndarray:
    """Return the commonest label among the nearest cells."""
    return np.asarray(KNeighborsClassifier(N_NEIGHBOURS).fit(z_nk, known.obs["label"].to_numpy()).predict(place))


def differences() -> Iterator[Row]:
    """Find genes that one random half of real cells of one type has thinned by a half, or none; and between donors."""
    for name, column, kept in (
        ("pbmc_facs_fasttopics", "sorted_population", ["CD19+ B"]),
        ("mixology_celllines", "cell_line", ["H1975"]),
        ("kang_merged", "donor", ["101", "107", "1015", "1016", "1039", "1244", "1256", "1488"]),
    ):
        adata = data(name)
        adata = adata[adata.obs[column].astype(str).isin(kept).to_numpy()].copy()
        if name == "kang_merged":
            is_kept = (adata.obs["condition"] == "ctrl") & adata.obs["cell_type"].isin(["CD4 T", "CD14+ Mono"])
            adata = adata[is_kept.to_numpy()].copy()
            adata.obs["batch"] = adata.obs["cell_type"].astype(str)  # known, so that it is no noise
        for share in (0.1, 0.0):
            found = pd.concat([_found(adata, share, seed, donors=name == "kang_merged") for seed in range(3)])
            for method, rows in found.groupby("method", sort=False):
                mean = rows.mean(numeric_only=True)
                yield {
                    "data": name, "thinned": share, "method": method, "called": mean["called"],
                    "false share": mean["false"], "power": mean["power"], "seconds": mean["seconds"],
                }  # fmt: skip


def _found(adata: ad.AnnData, share: float, seed: int, *, donors: bool) -> pd.DataFrame:
    """Thin some genes of one half of the cells, or of the donors; return what each method calls at 5 %."""
    rng = np.random.default_rng(seed)
    x_ng = adata.X.toarray()
    some = np.flatnonzero((x_ng > 0).mean(0) > 0.05)
    some = np.sort(rng.choice(some, min(len(some), N_GENES), replace=False))
    cells, x_ng = adata[:, some].copy(), x_ng[:, some].astype(int)
    donor_n = cells.obs["donor"].astype(str).to_numpy() if donors else None
    names = rng.permutation(sorted(set(donor_n))) if donor_n is not None else []
    in_one_n = rng.random(cells.n_obs) < 0.5 if donor_n is None else np.isin(donor_n, names[::2])
    thinned_g = rng.random(cells.n_vars) < share
    x_ng[np.ix_(in_one_n, thinned_g)] = rng.binomial(x_ng[np.ix_(in_one_n, thinned_g)], 0.5)
    cells.X = sparse.csr_matrix(x_ng.astype(np.float32))
    cells.obs["half"] = np.where(in_one_n, "one", "two")
    log_ng = logged(cells)
    methods: dict[str, Callable[[], tuple[np.ndarray, float]]] = {
        "genevae": lambda: _de_ours(cells, donors=donors),
        "scVI, change mode": lambda: _de_scvi(cells),
        "Wilcoxon": lambda: _at_five(mannwhitneyu(log_ng[in_one_n], log_ng[~in_one_n]).pvalue),
        "t-test": lambda: _at_five(ttest_ind(log_ng[in_one_n], log_ng[~in_one_n]).pvalue),
    }
    if donor_n is not None:
        profiles = {name: log_ng[donor_n == name].mean(0) for name in names}
        one, two = (np.stack([profiles[name] for name in names[at::2]]) for at in (0, 1))
        methods["pseudobulk t-test"] = lambda: _at_five(ttest_ind(one, two).pvalue)
    rows = []
    for method, call in methods.items():
        called_g, seconds = call()
        false = (called_g & ~thinned_g).sum() / max(called_g.sum(), 1)
        power = (called_g & thinned_g).sum() / max(thinned_g.sum(), 1)
        rows.append({"method": method, "called": called_g.sum(), "false": false, "power": power, "seconds": seconds})
    return pd.DataFrame(rows)


def _at_five(p_g: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the genes with a false discovery rate of 5 % (Benjamini and Hochberg)."""
    return false_discovery_control(np.nan_to_num(p_g, nan=1.0)) <= 0.05, 0.0


def _de_ours(cells: ad.AnnData, *, donors: bool) -> tuple[np.ndarray, float]:
    model = gv.fit(
        cells, "nb", batch="batch" if "batch" in cells.obs else None, epochs=40, folds=0, setting=CONSTANT, **RATE
    )
    started = time.perf_counter()
    table = gv.differential_expression(model, cells, "half", group1="one", replicate="donor" if donors else None)
    seconds = time.perf_counter() - started
    return table.set_index("gene").loc[cells.var_names, "called"].to_numpy(), seconds


def _de_scvi(cells: ad.AnnData) -> tuple[np.ndarray, float]:
    from scvi.model import SCVI

    cells = cells.copy()
    SCVI.setup_anndata(cells, batch_key="batch" if "batch" in cells.obs else None)
    model = SCVI(cells)
    model.train(max_epochs=100, early_stopping=True)
    started = time.perf_counter()
    table = model.differential_expression(
        groupby="half", group1="one", group2="two", mode="change", delta=0.25, fdr_target=0.05, silent=True,
        batch_correction="batch" in cells.obs,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    return table.loc[cells.var_names, "is_de_fdr_0.05"].to_numpy(dtype=bool), seconds


def partly_labelled() -> Iterator[Row]:
    """Label a fifth of the cells, given the labels of 1, 10 and 100 % of the others: accuracy there, and scIB."""
    for name, label in (("pbmc_3tech_symphony", "cell_type_broad"), ("mixology_celllines", "cell_line")):
        adata = data(name)
        adata.obs["true"], adata.obs["batch"] = adata.obs[label].astype(str), adata.obs["batch"].astype(str)
        if adata.n_vars > N_GENES:
            adata = adata[:, list(gv.highly_variable(adata, N_GENES))].copy()
        place_nk = PCA(30, random_state=SEED).fit_transform(logged(adata))
        rng = np.random.default_rng(SEED)
        order_n = rng.permutation(adata.n_obs)
        is_test_n = order_n < adata.n_obs // 5
        true_n, scvi = adata.obs["true"].to_numpy(dtype=object), []
        for share in (0.01, 0.1, 1.0):
            known_n = ~is_test_n & (rng.random(adata.n_obs) < share)
            adata.obs["label"] = np.where(known_n, true_n, "Unknown")
            for method in (_semi_ours, _semi_scanvi, _semi_pca):
                started = time.perf_counter()
                labels, z_nk = method(adata, place_nk, scvi)
                scores = gv.metrics.integration_scores(z_nk, true_n, adata.obs["batch"], place_nk)
                yield {
                    "data": name, "labelled": share, "method": method.__doc__,
                    "accuracy": np.mean((labels == true_n)[is_test_n]), "scIB total": scores["Total"],
                    "seconds": time.perf_counter() - started,
                }  # fmt: skip


def _semi_ours(adata: ad.AnnData, place_nk: np.ndarray, scvi: list[Any]) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG001 - one signature
    """genevae"""  # noqa: D400, D403 - the name in the table
    model = gv.fit(
        adata, "semi", labels="label", unlabelled="Unknown", batch="batch", epochs=60, folds=0, setting=CONSTANT, **RATE
    )
    return gv.classify(model, adata, "label")["label"].to_numpy(), np.asarray(gv.embed(model, adata).obsm["X_genevae"])


def _semi_scanvi(adata: ad.AnnData, place_nk: np.ndarray, scvi: list[Any]) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG001 - one signature
    """SCANVI"""  # noqa: D400 - the name in the table
    from scvi.model import SCANVI, SCVI

    if not scvi:  # labels play no part in the first model
        cells = adata.copy()
        SCVI.setup_anndata(cells, batch_key="batch", labels_key="label")
        scvi.append(SCVI(cells, n_layers=2, n_latent=30))
        scvi[0].train(max_epochs=200, early_stopping=True)
    cells = adata.copy()
    SCVI.setup_anndata(cells, batch_key="batch", labels_key="label")
    first = SCVI(cells, n_layers=2, n_latent=30)
    first.module.load_state_dict(scvi[0].module.state_dict())
    first.is_trained_ = True
    model = SCANVI.from_scvi_model(first, "Unknown")
    model.train(max_epochs=20, n_samples_per_label=100)
    return np.asarray(model.predict()), np.asarray(model.get_latent_representation())


def _semi_pca(adata: ad.AnnData, place_nk: np.ndarray, scvi: list[Any]) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG001 - one signature
    """PCA and logistic regression"""  # noqa: D400 - the name in the table
    label_n = adata.obs["label"].to_numpy(dtype=object)
    known_n = label_n != "Unknown"
    return LogisticRegression(max_iter=1000).fit(place_nk[known_n], label_n[known_n]).predict(place_nk), place_nk


def programs() -> Iterator[Row]:
    """Rank gene sets by stimulated against untreated cells: the two of interferon should come first."""
    adata = data("kang_merged")
    adata.obs_names_make_unique()
    is_stim_n = (adata.obs["condition"] == "stim").to_numpy()
    log_ng, names = logged(adata), np.array(adata.var_names)
    for source, wanted in (
        ("human_hallmark_v2025", ["HALLMARK_INTERFERON_ALPHA_RESPONSE", "HALLMARK_INTERFERON_GAMMA_RESPONSE"]),
        ("human_reactome_v2025", ["REACTOME_INTERFERON_ALPHA_BETA_SIGNALING", "REACTOME_INTERFERON_SIGNALING"]),
    ):
        path = Path(os.environ["GENEVAE_DATA"]) / "annot" / f"{source}.gmt"
        sets = {name: genes for name, genes in read_gene_sets(path).items() if np.isin(names, genes).sum() >= LEAST}
        started = time.perf_counter()
        model = gv.fit(adata, "programs", gene_sets=sets, genes=N_GENES, epochs=40, folds=0, setting=CONSTANT, **RATE)
        found = gv.program_scores(model, adata, group_by="condition", group1="stim", group2="ctrl").var
        found = found[~found.index.str.startswith("free")]
        means = {name: log_ng[:, np.isin(names, genes)].mean(1) for name, genes in sets.items()}
        n = is_stim_n.sum() * (~is_stim_n).sum()
        of_mean = {name: mannwhitneyu(x[is_stim_n], x[~is_stim_n]).statistic / n for name, x in means.items()}
        order = sorted(of_mean, key=lambda name: -abs(of_mean[name] - 0.5))
        for method, ranking, p in (
            ("genevae", list(found.index), found["probability"]), ("mean of the genes", order, of_mean),
        ):  # fmt: skip
            yield {
                "data": "kang_merged", "sets": f"{len(ranking)} of {source}", "method": method,
                "ranks of interferon": " and ".join(str(ranking.index(name) + 1) for name in wanted),
                "first": ranking[0], "probability of the first": float(p[ranking[0]]),
                "seconds": time.perf_counter() - started if method == "genevae" else 0.0,
            }  # fmt: skip


def unseen() -> Iterator[Row]:
    """Hold out each knock-out in turn, and predict it from control cells and a vector of its gene: error, harmed."""
    adata = data("papalexi_thp1_sceptre")
    annotated = Path(os.environ["GENEVAE_DATA"]) / "annot"
    paths = [annotated / f"human_{name}_v2025.gmt" for name in ("hallmark", "reactome")]
    sets = {name: genes for path in paths for name, genes in read_gene_sets(path).items()}
    level = adata.obs["perturbation"].astype(str)
    knock_outs = sorted(set(level) - {"non-targeting"})
    vectors = gene_vectors(knock_outs, adata[(level == "non-targeting").to_numpy()], sets)
    table = pd.DataFrame(
        row for seed in range(N_SEEDS) for one in knock_outs for row in knocked_out(adata, vectors, one, seed)
    )
    for method, rows in table.groupby("method", sort=False):
        mean = rows.mean(numeric_only=True)
        yield {"data": "papalexi_thp1_sceptre", "method": method, **mean.drop("seed").to_dict()}


def knocked_out(adata: ad.AnnData, vectors: pd.DataFrame, knock_out: str, seed: int) -> Iterator[Row]:
    """Train without a knock-out, and score what each member and all together predict for it."""
    level_n, log_ng = adata.obs["perturbation"].astype(str).to_numpy(), logged(adata)
    is_control_n, is_true_n = level_n == "non-targeting", level_n == knock_out
    true_g = log_ng[is_true_n].mean(0) - log_ng[is_control_n].mean(0)
    started = time.perf_counter()
    number_n = pd.Series(level_n).groupby(level_n).cumcount().to_numpy()
    train = adata[~is_true_n & (is_control_n | (number_n < MOST_CELLS))].copy()
    model = gv.fit(
        train, "nb", condition="perturbation", control="non-targeting", embedding={"perturbation": vectors},
        epochs=10, seed=seed,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    with evaluation_mode(model) as module, seeded(module, seed):
        cells = open_cells(model, adata[is_control_n].copy(), None, 512)
        (one,) = answers_of(model, module, cells, {"perturbation": knock_out}, "auto", 0.9)
    shifts = {"genevae": one.answer.shift_g, **one.answer.members}
    error = {name: 1e3 * np.square(x - true_g).mean() for name, x in shifts.items()}
    for name, x in shifts.items():
        yield {
            "method": name, "knock-out": knock_out, "seed": seed, "MSE × 1,000": error[name],
            "Pearson-Δ": np.corrcoef(x, true_g)[0, 1] if np.any(x) else 0.0,
            "harmed": error[name] > error["perturbed mean"], "seconds to train": seconds,
        }  # fmt: skip


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "map": mapping,
    "de": differences,
    "semi": partly_labelled,
    "programs": programs,
    "unseen": unseen,
}


def main() -> None:
    """Print the rows of a part, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part of the table; by default all")
    only = parser.parse_args().only
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    gv.settings.progress = False
    for name, rows in PARTS.items():
        if only in (None, name):
            for number, row in enumerate(rows()):
                if not number:
                    print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
                print(
                    "| " + " | ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()) + " |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
