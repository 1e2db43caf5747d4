"""What a user does with `genevae data`, and with tables of bulk samples, on real data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from genevae.cli import main
from genevae.io.formats import open_source

N = 400


@pytest.fixture(scope="module")
def kang(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells of blood, half of them given interferon: every tenth, and the first 1,200 genes."""
    path = tmp_path_factory.mktemp("kang") / "kang.h5ad"
    whole = ad.read_h5ad(shared_data("kang_merged.h5ad"), backed="r")
    rows = np.linspace(0, whole.n_obs - 1, N).astype(int)
    cells = whole[rows].to_memory()[:, :1200].copy()
    whole.file.close()
    cells.obs = cells.obs[["condition", "cell_type", "donor"]].astype(str)
    cells.write_h5ad(path)
    return path


def words_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def total(path: Path) -> float:
    x = open_source(path).read(np.arange(len(open_source(path))))
    return float(x.sum())


# --- looking ----------------------------------------------------------------------------------------------------------


def test_inspect_says_what_is_in_a_file(kang, capsys) -> None:
    main(["data", "inspect", str(kang)])
    said = words_of(capsys)
    assert "400 cells × 1,200 genes" in said
    assert "--recipe nb" in said


def test_fields_says_what_each_column_is(kang, tmp_path, capsys) -> None:
    main(["data", "fields", str(kang)])
    said = words_of(capsys)
    assert all(name in said for name in ("condition", "cell_type", "donor"))
    main(["data", "fields", str(kang), "--out", str(tmp_path / "fields.csv")])
    table = pd.read_csv(tmp_path / "fields.csv", index_col=0)
    assert set(table.index) == {"condition", "cell_type", "donor"}
    obs = ad.read_h5ad(kang).obs
    assert table["cardinality"].to_dict() == {name: obs[name].nunique() for name in table.index}
    assert (table["non_null_fraction"] == 1).all()


# --- converting -------------------------------------------------------------------------------------------------------


def test_convert_there_and_back(kang, tmp_path, capsys) -> None:
    main(["data", "convert", str(kang), "--out", str(tmp_path / "shards"), "--cells-per-file", "150", "--shuffle"])
    assert "Wrote" in words_of(capsys)
    assert sorted(file.name for file in (tmp_path / "shards").iterdir()) == [
        "batch_0000.h5", "batch_0001.h5", "batch_0002.h5", "config.json",
    ]  # fmt: skip
    main(["data", "convert", str(tmp_path / "shards"), "--out", str(tmp_path / "back.zarr")])
    back, before = ad.read_zarr(tmp_path / "back.zarr"), ad.read_h5ad(kang)
    assert list(back.obs_names) != list(before.obs_names)
    in_order = back[before.obs_names]
    assert (sparse.csr_matrix(before.X) != in_order.X).nnz == 0
    assert in_order.obs["donor"].astype(str).tolist() == before.obs["donor"].astype(str).tolist()


def test_transpose_turns_a_table_twice_into_itself(kang, tmp_path) -> None:
    table = tmp_path / "counts.csv"
    ad.read_h5ad(kang)[:50, :80].to_df().astype(int).to_csv(table)
    main(["data", "transpose", str(table), "--out", str(tmp_path / "turned.tsv.gz")])
    turned = pd.read_csv(tmp_path / "turned.tsv.gz", sep="\t", index_col=0)
    pd.testing.assert_frame_equal(turned.T, pd.read_csv(table, index_col=0), check_names=False)
    main(["data", "transpose", str(tmp_path / "turned.tsv.gz"), "--out", str(tmp_path / "again.csv")])
    assert (tmp_path / "again.csv").read_text() == table.read_text()
    ours, theirs = open_source(tmp_path / "turned.tsv.gz"), open_source(table)
    assert ours.genes == theirs.genes


# --- passing over -----------------------------------------------------------------------------------------------------


def test_highly_variable_genes_are_what_fit_is_given(kang, tmp_path) -> None:
    for workers in ("1", "3"):
        words = ["--n-genes", "100", "--workers", workers, "--out", str(tmp_path / f"genes{workers}.txt")]
        main(["data", "hvg", str(kang), *words])
    assert (tmp_path / "genes1.txt").read_text() == (tmp_path / "genes3.txt").read_text()
    genes = [line for line in (tmp_path / "genes1.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(genes) == 100
    run = tmp_path / "run"
    main(
        [
            "fit",
            str(kang),
            "--genes",
            str(tmp_path / "genes1.txt"),
            "--epochs",
            "2",
            "--hidden",
            "16",
            "--out",
            str(run),
        ]
    )
    assert json.loads((run / "schema.json").read_text())["genes"] == genes
    main(["data", "hvg", str(kang), "--n-genes", "100", "--batch", "donor", "--out", str(tmp_path / "by_donor.txt")])
    assert (tmp_path / "by_donor.txt").read_text() != (tmp_path / "genes1.txt").read_text()


def test_pseudobulk_adds_up_every_count(kang, tmp_path) -> None:
    words = ["--by", "donor", "--by", "cell_type", "--workers", "2"]
    main(["data", "pseudobulk", str(kang), *words, "--out", str(tmp_path / "bulk.h5ad")])
    bulk, cells = ad.read_h5ad(tmp_path / "bulk.h5ad"), ad.read_h5ad(kang)
    assert bulk.n_obs == len(cells.obs[["donor", "cell_type"]].drop_duplicates())
    assert bulk.X.sum() == cells.X.sum()
    assert bulk.obs["n_cells"].sum() == N
    first = bulk.obs.iloc[0]
    chosen = (cells.obs["donor"] == first["donor"]) & (cells.obs["cell_type"] == first["cell_type"])
    np.testing.assert_array_equal(np.asarray(bulk.X[0]).ravel(), np.asarray(cells[chosen].X.sum(0)).ravel())


def test_mixtures_say_what_they_are_mixed_from(kang, tmp_path) -> None:
    words = ["--by", "cell_type", "--n", "12", "--cells", "40", "--seed", "3"]
    for name in ("a.h5ad", "b.zarr"):
        main(["data", "mixtures", str(kang), *words, "--out", str(tmp_path / name)])
    a, b = ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_zarr(tmp_path / "b.zarr")
    assert a.n_obs == 12
    np.testing.assert_array_equal(a.X, b.X)
    assert total(tmp_path / "a.h5ad") > 0


def test_download_fetches_what_can_be_trained_on(kang, tmp_path, capsys) -> None:
    """From a store in a folder, laid out as scBaseCount is."""
    pytest.importorskip("fsspec")
    pytest.importorskip("pyarrow")
    inner, store = "GeneFull_Ex50pAS/Homo_sapiens", tmp_path / "store"
    for folder in ("h5ad", "metadata"):
        (store / folder / inner).mkdir(parents=True)
    names = ["SRX1", "SRX2"]
    cells = ad.read_h5ad(kang)
    for number, name in enumerate(names):
        cells[number::2].write_h5ad(store / "h5ad" / inner / f"{name}.h5ad")
    table = pd.DataFrame(
        {"srx_accession": names, "file_path": [f"{n}.h5ad" for n in names], "obs_count": [200, 200], "tissue": "blood"}
    )
    table.to_parquet(store / "metadata" / inner / "sample_metadata.parquet")
    out = tmp_path / "fetched"
    main(["data", "download", str(out), "--root", f"file://{store}", "--tissue", "blood", "--dry-run"])
    assert "SRX2" in words_of(capsys)
    assert not out.exists()
    main(["data", "download", str(out), "--root", f"file://{store}", "--tissue", "blood"])
    assert {"SRX1.h5ad", "SRX2.h5ad", "sample_metadata.csv", "manifest.json"} <= {file.name for file in out.iterdir()}
    words = ["--metadata", str(out / "sample_metadata.csv"), "--key", "file", "--condition", "cell_type"]
    main(
        ["fit", str(out), *words, "--batch", "file", "--epochs", "1", "--hidden", "16", "--out", str(tmp_path / "run")]
    )
    assert "Data" in words_of(capsys)


def test_a_balanced_fit_of_many_files(kang, tmp_path) -> None:
    main(["data", "convert", str(kang), "--out", str(tmp_path / "parts"), "--to", "zarr", "--cells-per-file", "130"])
    words = ["--condition", "cell_type", "--balance", "cell_type", "--keep", "disk", "--epochs", "1", "--hidden", "16"]
    main(["fit", str(tmp_path / "parts"), *words, "--out", str(tmp_path / "run")])
    main(["embed", str(tmp_path / "run"), str(kang), "--out", str(tmp_path / "latent.h5ad")])
    assert ad.read_h5ad(tmp_path / "latent.h5ad").n_obs == N


# --- bulk tissue ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gtex(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bulk samples as they are handed around: genes down, samples across, their tissues in another table."""
    folder = tmp_path_factory.mktemp("gtex")
    whole = ad.read_h5ad(shared_data("bulk_gtex_tcga_rnaseqdb.h5ad"), backed="r")
    rows = np.linspace(0, whole.n_obs - 1, 150).astype(int)
    samples = whole[rows].to_memory()[:, :3000].copy()
    whole.file.close()
    table = samples.to_df().T.rename_axis(index="gene", columns=None)
    table.round().astype(int).to_csv(folder / "counts.csv.gz", compression={"method": "gzip", "compresslevel": 1})
    samples.obs[["tissue", "study"]].astype(str).iloc[::-1].to_csv(folder / "samples.csv", index_label="sample")
    return folder


def test_bulk_samples_in_one_command(gtex, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(gtex)
    run = str(tmp_path / "run")
    command = (
        "fit counts.csv.gz --metadata samples.csv --recipe gaussian --setting standardise=true "
        f"--setting target_size=1000000 --condition tissue --epochs 3 --out {run}"
    )
    main(command.split())
    said = words_of(capsys)
    assert "3,000 genes" in said
    assert "conditions: tissue" in said
    schema = json.loads((tmp_path / "run" / "schema.json").read_text())
    assert schema["transform"]["name"] == "standardise"
    assert schema["transform"]["inner"] == {"name": "log-normalise", "target": 1e6}
    assert len(schema["transform"]["mean"]) == len(schema["transform"]["scale"]) == 3000
    tissues = pd.read_csv("samples.csv")["tissue"].nunique()
    (field,) = schema["categorical"]
    assert field["name"] == "tissue"
    assert len(field["categories"]) == tissues
    main(f"embed {run} counts.csv.gz --metadata samples.csv --out {tmp_path}/latent.h5ad".split())
    assert ad.read_h5ad(tmp_path / "latent.h5ad").obsm["X_genevae"].shape[0] == 150
    main(f"denoise {run} counts.csv.gz --metadata samples.csv --out {tmp_path}/denoised.h5ad".split())
    denoised = ad.read_h5ad(tmp_path / "denoised.h5ad")
    assert denoised.uns["genevae"]["values"] == "log-normalised"
    counts = pd.read_csv("counts.csv.gz", index_col=0).T
    logged = np.log1p(counts.div(counts.sum(axis=1), axis=0) * 1e6)
    assert list(denoised.var_names) == list(counts.columns)
    assert list(denoised.obs_names) == list(counts.index)
    gap_g = np.abs(denoised.X.mean(0) - logged.mean(axis=0).to_numpy())
    assert np.median(gap_g) < 0.3, "answers are scaled back: each gene lies about its own mean"
    assert np.corrcoef(denoised.X.mean(0), logged.mean(axis=0))[0, 1] > 0.97


def test_a_config_remembers_how_the_data_were_read(gtex, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(gtex)
    for name, words in (
        ("one", "counts.csv.gz --metadata samples.csv --transpose"),
        ("two", "--config {}/one/config.toml"),
    ):
        more = "" if name == "two" else "--recipe gaussian --condition tissue --epochs 1 --hidden 8"
        main(f"fit {words.format(tmp_path)} {more} --out {tmp_path}/{name}".split())
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
