"""Each system from files as that system writes them, by h5py, NumPy, pickle and csv alone, at its own settings."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

from genevae.cli import main

TYPES = ("B", "Mono", "T")
N_GENES, N_PER_TYPE = 60, 40


def simulate(seed: int = 0) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Counts of cells of three types, each with ten markers; a drug, given to half of them, raises ten other genes."""
    rng = np.random.default_rng(seed)
    counts, rows = [], []
    for number in range(N_PER_TYPE * len(TYPES)):
        kind, drug = number % 3, number // 3 % 2
        rate = rng.uniform(0.5, 1.5, N_GENES)
        rate[10 * kind : 10 * kind + 10] *= 8
        rate[30:40] *= 1 + 5 * drug
        counts.append(rng.poisson(2 * rate))
        accession = f"SRX{100 + 2 * drug + number // 6 % 2}"
        rows.append({"cell": "".join(rng.choice(list("ACGT"), 16)), "type": TYPES[kind], "drug": ("none", "IFNB")[drug],
                     "SRX_accession": accession})  # fmt: skip
    return np.array(counts, np.float32), rows


def write_csv(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def test_a_batch_files_of_hdf5_with_labels_in_a_table(tmp_path: Path) -> None:
    counts, rows = simulate()
    folder = tmp_path / "batches"
    folder.mkdir()
    for number in range(2):
        part = slice(60 * number, 60 * number + 60)
        with h5py.File(folder / f"batch_{number:04d}.h5", "w") as file:
            file["X"] = counts[part]
            file["genes"] = np.array([f"G{gene}" for gene in range(N_GENES)], "S")
            file["cells"] = np.array([row["cell"] for row in rows[part]], "S")
            file["obs/SRX_accession"] = np.array([row["SRX_accession"] for row in rows[part]], "S")
            file["obs/gene_count"] = (counts[part] > 0).sum(1)
            file["obs/umi_count"] = counts[part].sum(1)
    (folder / "config.json").write_text(json.dumps({"n_cells": 120, "n_genes": N_GENES, "cells_per_file": 60}))
    write_csv(tmp_path / "types.tsv", [{"cell_type": r["type"], "cell": r["cell"]} for r in rows], "\t")
    write_csv(tmp_path / "drugs.csv", [{"cell": r["cell"], "perturbation": r["drug"]} for r in rows])
    tables = [word for name in ("types.tsv", "drugs.csv") for word in ("--metadata", str(tmp_path / name))]
    data = [str(folder), *tables, "--metadata-key", "cell"]
    fields = ["--condition", "cell_type", "--condition", "perturbation", "--condition", "SRX_accession"]
    main(["fit", *data, "--recipe", "conditional", *fields, "--control", "perturbation=none", "--epochs", "30",
          "--batch-size", "16", "--out", str(tmp_path / "run")])  # fmt: skip
    vocabularies = json.loads((tmp_path / "run" / "vocabularies.json").read_text())
    assert vocabularies["SRX_accession"] == {"SRX100": 0, "SRX101": 1, "SRX102": 2, "SRX103": 3, "unknown": 4}
    main(["classify", str(tmp_path / "run"), *data, "--field", "cell_type", "--method", "reconstruction",
          "--out", str(tmp_path / "types.csv")])  # fmt: skip
    predicted = pd.read_csv(tmp_path / "types.csv")
    truth = pd.Series({row["cell"]: row["type"] for row in rows})
    assert (predicted.set_index(predicted.columns[0])["label"] == truth).mean() > 0.6, "a third of the cells by chance"
    main(["effect", str(tmp_path / "run"), *data, "--field", "perturbation", "--out", str(tmp_path / "effects.csv")])
    effects = pd.read_csv(tmp_path / "effects.csv")
    ranked = effects.sort_values("lfc", ascending=False)["gene"].tolist()
    assert len({f"G{gene}" for gene in range(30, 40)} & set(ranked[:15])) >= 7


def test_b_bulk_as_genes_by_samples_with_a_table_of_samples(tmp_path: Path) -> None:
    counts, rows = simulate()
    with gzip.open(tmp_path / "tpm.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", *(row["cell"] for row in rows)])
        for gene in range(N_GENES):
            writer.writerow([f"ENSG{gene:011d}.{gene % 3 + 1}", *(f"{value:g}" for value in counts[:, gene])])
    write_csv(tmp_path / "samples.tsv", [{"SAMPID": r["cell"], "SMTSD": r["type"]} for r in rows], "\t")
    run, data = str(tmp_path / "run"), [str(tmp_path / "tpm.csv.gz"), "--metadata", str(tmp_path / "samples.tsv")]
    main(["fit", *data, "--recipe", "bulk", "--epochs", "20", "--n-latent", "8", "--hidden", "32", "--batch-size", "32",
          "--out", run])  # fmt: skip
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["validation_loss"].iloc[-1] < history["validation_loss"].iloc[0]
    main(["embed", run, *data, "--out", str(tmp_path / "latent.h5ad")])
    latent = ad.read_h5ad(tmp_path / "latent.h5ad")
    z = next(iter(latent.obsm.values()))
    distance = ((z[:, None] - z[None]) ** 2).sum(-1) + 1e9 * np.eye(len(z))
    kinds = latent.obs["SMTSD"].astype(str).to_numpy()
    assert (kinds[distance.argmin(1)] == kinds).mean() > 0.8
    main(["gene-embeddings", run, "--out", str(tmp_path / "genes.h5ad")])
    assert ad.read_h5ad(tmp_path / "genes.h5ad").n_obs == N_GENES


@pytest.mark.parametrize(
    "recipe", ["nb", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zinb", "gaussian"))]
)
def test_c_counts_of_cells_by_genes_with_doses(recipe: str, tmp_path: Path) -> None:
    counts, rows = simulate()
    with (tmp_path / "counts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", *(f"G{gene}" for gene in range(N_GENES))])
        writer.writerows([row["cell"], *map(int, line)] for row, line in zip(rows, counts, strict=True))
    write_csv(tmp_path / "obs.csv", [{**r, "dose": "1" if r["drug"] == "IFNB" else "0"} for r in rows])
    run, data = str(tmp_path / "run"), [str(tmp_path / "counts.csv"), "--metadata", str(tmp_path / "obs.csv")]
    main(["fit", *data, "--recipe", recipe, "--condition", "type", "--continuous", "dose", "--epochs", "40",
          "--batch-size", "32", "--out", run])  # fmt: skip
    main(["denoise", run, *data, "--out", str(tmp_path / "denoised.h5ad")])
    denoised = ad.read_h5ad(tmp_path / "denoised.h5ad").to_df()
    treated = np.array([row["drug"] == "IFNB" for row in rows])
    assert denoised.loc[treated, "G35"].mean() > 1.5 * denoised.loc[~treated, "G35"].mean()
    assert denoised.loc[treated, "G35"].std() < counts[treated, 35].std()


def test_d_counts_of_10x_with_a_table_of_annotations(tmp_path: Path) -> None:
    counts, rows = simulate()
    folder = tmp_path / "filtered_matrices_mex" / "hg19"
    folder.mkdir(parents=True)
    genes, cells = np.nonzero(counts.T)
    with (folder / "matrix.mtx").open("w") as file:
        file.write(f"%%MatrixMarket matrix coordinate real general\n%\n{N_GENES} {len(rows)} {len(genes)}\n")
        file.writelines(f"{g + 1} {c + 1} {int(counts[c, g])}\n" for g, c in zip(genes, cells, strict=True))
    (folder / "genes.tsv").write_text("".join(f"ENSG{gene:011d}\tG{gene}\n" for gene in range(N_GENES)))
    (folder / "barcodes.tsv").write_text("".join(f"{row['cell']}-1\n" for row in rows))
    annotations = [{"TSNE.1": "1.5", "TSNE.2": "-2", "barcodes": f"{r['cell']}-1", "celltype": r["type"]} for r in rows]
    write_csv(tmp_path / "annotations.tsv", annotations, "\t")
    run, data = str(tmp_path / "run"), [str(folder), "--metadata", str(tmp_path / "annotations.tsv")]
    main(["fit", *data, "--recipe", "convolutional", "--condition", "celltype", "--setting", "image_size=12",
          "--epochs", "20", "--batch-size", "32", "--out", run])  # fmt: skip
    main(["generate", run, "--per-category", "celltype=30", "--out", str(tmp_path / "made.h5ad")])
    made = ad.read_h5ad(tmp_path / "made.h5ad")
    assert made.obs["celltype"].value_counts().to_dict() == dict.fromkeys(TYPES, 30)
    means = made.to_df().groupby(made.obs["celltype"].astype(str)).mean()
    for number, kind in enumerate(TYPES):
        markers = means.iloc[:, 10 * number : 10 * number + 10].mean(1)
        assert markers.idxmax() == kind


def test_e_chunks_of_npz_with_pickles(tmp_path: Path) -> None:
    counts, rows = simulate()
    folder = tmp_path / "chunks"
    folder.mkdir()
    for number in range(2):
        part = slice(60 * number, 60 * number + 60)
        values = counts[part]
        at = np.nonzero(values)
        indptr = np.concatenate([[0], np.cumsum((values > 0).sum(1))])
        np.savez_compressed(folder / f"human_counts_{number + 1}.npz", indices=at[1].astype(np.int32),
                            indptr=indptr.astype(np.int32), format=np.array(b"csr"), shape=np.array(values.shape),
                            data=values[at])  # fmt: skip
        table = pd.DataFrame([{"cell_type": row["type"], "drug": row["drug"]} for row in rows[part]])
        with (folder / f"human_metadata_{number + 1}.pkl").open("wb") as file:
            pickle.dump(table, file)
    run = str(tmp_path / "run")
    main(["fit", str(folder), "--recipe", "cycle", "--condition", "drug", "--condition", "cell_type", "--epochs", "10",
          "--n-latent", "128", "--hidden", "128", "--learning-rate", "1e-4", "--batch-size", "128",
          "--out", run])  # fmt: skip
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["validation_cycle"].iloc[-1] < 1
    main(["influence", run, str(folder), "--out", str(tmp_path / "influence.csv")])
    assert {"drug", "cell_type"} <= set(pd.read_csv(tmp_path / "influence.csv")["field"])
