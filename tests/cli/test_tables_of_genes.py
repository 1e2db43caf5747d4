"""Tables that the test writes: without names, either way up, with genes renamed and selected; results as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import genevae as gv
from genevae.cli import main

QUICK = ["--epochs", "2", "--hidden", "8", "--n-latent", "3", "--device", "cpu"]
COUNTS = np.random.default_rng(0).poisson(3, (40, 12))
IDS = [f"ENSG{g:011d}" for g in range(12)]


def write(path: Path, rows: Sequence[Sequence[Any]], separator: str = ",") -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return path


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Forty samples of twelve genes, with the versions of their ids."""
    names = [f"{gene}.{1 + g % 3}" for g, gene in enumerate(IDS)]
    return write(tmp_path / "counts.csv", [["", *names], *([f"s{n}", *row] for n, row in enumerate(COUNTS))])


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_without_names_is_read_either_way_up(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"counts.{suffix}", COUNTS.tolist(), {"csv": ",", "tsv": "\t"}[suffix])
    for option, x in (("--no-transpose", COUNTS), ("--transpose", COUNTS.T)):
        out = tmp_path / f"read{option}.h5ad"
        main(["data", "convert", str(path), "--no-names", option, "--out", str(out)])
        found = ad.read_h5ad(out)
        np.testing.assert_array_equal(found.X if isinstance(found.X, np.ndarray) else found.X.toarray(), x)
        assert list(found.var_names) == [str(g + 1) for g in range(x.shape[1])]
        assert list(found.obs_names) == [str(n + 1) for n in range(x.shape[0])]


def test_no_names_of_a_file_that_has_names_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cells.h5ad"
    ad.AnnData(COUNTS.astype(np.float32)).write_h5ad(path)
    with pytest.raises(SystemExit):
        main(["inspect", str(path), "--no-names"])
    assert "has names" in capsys.readouterr().err


def test_genes_are_the_rows_of_any_format(tmp_path: Path) -> None:
    path, out = tmp_path / "cells.h5ad", tmp_path / "genes.csv"
    adata = ad.AnnData(COUNTS.astype(np.float32))
    adata.var_names, adata.obs_names = IDS, [f"s{n}" for n in range(40)]
    adata.write_h5ad(path)
    main(["fit", str(path), "--transpose", "--batch-size", "4", *QUICK, "--out", str(tmp_path / "run")])
    main(["embed", str(tmp_path / "run"), str(path), "--transpose", "--out", str(out)])
    header, *rows = read_csv(out)
    assert header == ["name", "latent_1", "latent_2", "latent_3"]
    assert [row[0] for row in rows] == IDS
    main(["embed", str(tmp_path / "run"), str(path), "--transpose", "--out", str(tmp_path / "genes.parquet")])
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "genes.parquet"), pd.read_csv(out).astype(dict.fromkeys(header[1:], np.float32))
    )
    main(["gene-embeddings", str(tmp_path / "run"), "--out", str(tmp_path / "vectors.parquet")])
    assert pd.read_parquet(tmp_path / "vectors.parquet")["name"].tolist() == [f"s{n}" for n in range(40)]
    assert gv.load(tmp_path / "run").schema.genes == tuple(adata.obs_names)


def test_genes_are_renamed_and_the_model_has_their_new_names(table: Path, tmp_path: Path) -> None:
    """Versions do not matter, a name that is taken is not given twice, and a gene without a name keeps its own."""
    pairs = [[gene, f"SYM{g}"] for g, gene in enumerate(IDS[:10])]
    names = write(tmp_path / "names.tsv", [*pairs, [IDS[10], "SYM0"]], "\t")
    run = tmp_path / "run"
    as_it_is = [str(table), "--no-transpose", "--gene-names", str(names)]
    main(["fit", *as_it_is, *QUICK, "--out", str(run)])
    assert gv.load(run).schema.genes == (*(f"SYM{g}" for g in range(10)), f"{IDS[10]}.2", f"{IDS[11]}.3")
    main(["embed", str(run), *as_it_is, "--out", str(tmp_path / "z.tsv")])
    assert len((tmp_path / "z.tsv").read_text().splitlines()) == 41


def gtf_line(gene: str, kind: str, name: str, key: str, feature: str = "gene") -> str:
    return f'1\tx\t{feature}\t1\t9\t.\t+\t.\tgene_id "{gene}"; gene_name "{name}"; {key} "{kind}";\n'


@pytest.mark.parametrize("key", ["gene_type", "gene_biotype"])
def test_protein_coding_genes_are_those_of_a_gtf_file(table: Path, tmp_path: Path, key: str) -> None:
    kinds = ["protein_coding" if g % 2 else "lncRNA" for g in range(12)]
    lines = [gtf_line(f"{gene}.9", kind, "", key) for gene, kind in zip(IDS, kinds, strict=True)]
    lines += [gtf_line("ENSG09999999999", "protein_coding", "ELSEWHERE", key), "#!a comment\n"]
    (tmp_path / "genes.gtf").write_text("".join(lines))
    (tmp_path / "list.txt").write_text("\n".join([*IDS[1::2], "ELSEWHERE"]))
    for file in ("genes.gtf", "list.txt"):
        run = tmp_path / f"run of {file}"
        options = ["--no-transpose", "--gene-filter", str(tmp_path / file), *QUICK]
        main(["fit", str(table), *options, "--out", str(run)])
        assert [gene.partition(".")[0] for gene in gv.load(run).schema.genes] == IDS[1::2]


def test_a_filter_without_any_of_the_genes_is_an_error(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("GAPDH\n")
    options = ["--no-transpose", "--gene-filter", str(tmp_path / "list.txt"), *QUICK]
    with pytest.raises(SystemExit):
        main(["fit", str(table), *options, "--out", str(tmp_path / "run")])
    assert "none of the genes" in capsys.readouterr().err


def test_results_are_written_as_csv_and_maps_in_three_dimensions(table: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "latent"
    main(["fit", str(table), "--no-transpose", *QUICK, "--out", str(run)])
    main(["gene-embeddings", str(run), "--out", str(tmp_path / "genes.csv")])
    header, *rows = read_csv(tmp_path / "genes.csv")
    assert len(rows) == 12
    vectors = gv.gene_embeddings(gv.load(run)).obsm["X_genevae"]
    np.testing.assert_allclose(np.array([row[1:] for row in rows], dtype=float), vectors, rtol=1e-6)
    main(["latent", str(run), str(table), "--no-transpose", "--maps", "pca", "--dimensions", "3", "--out", str(out)])
    header, *rows = read_csv(out / "maps.csv")
    assert header == ["cell", "pca_1", "pca_2", "pca_3"]
    latent = ad.read_h5ad(out / "latent.h5ad")
    np.testing.assert_allclose(np.array([row[1:] for row in rows], dtype=float), latent.obsm["X_pca"], rtol=1e-5)
    header, *rows = read_csv(out / "latent.csv")
    np.testing.assert_allclose(np.array([row[1:] for row in rows], dtype=float), latent.obsm["X_genevae"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["counts", "log"])
def test_bulk_samples_are_recognised_as_counts_and_as_logarithms(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    bulk = rng.poisson(rng.lognormal(5, 1.5, 1500), (20, 1500))
    cells = rng.poisson(rng.lognormal(-2, 1, 1500), (20, 1500))
    for x, recipes in ((bulk, {"bulk"}), (cells, {"nb", "poisson", "conditional"})):
        x = x if kind == "counts" else np.log1p(1e4 * x / x.sum(1, keepdims=True))  # noqa: PLW2901
        names = [f"ENSG{g:011d}" for g in range(1500)]
        path = write(tmp_path / "x.csv", [["", *names], *([f"s{n}", *row] for n, row in enumerate(x.tolist()))])
        assert gv.inspect(path).recipe in recipes
