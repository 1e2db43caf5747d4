"""Tables of expression: every format and orientation gives the same samples × genes, and damage is named."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import genevae.io.tables.delimited as delimited
import genevae.io.tables.numeric_table as grid
from genevae.errors import DataError
from genevae.io.read_options import ReadOptions
from genevae.io.source import Source
from genevae.io.tables.metadata import read_table
from genevae.io.tables.open_table import is_table, open_table
from genevae.io.tables.orientation import describes_samples, genes_in_rows, is_likely_gene, is_likely_sample

SAMPLES, GENES = [f"S{at}" for at in range(5)], [f"G{at}" for at in range(12)]


def opened(path: Path, transpose: bool | None = None, **more) -> Source:
    return open_table(path, ReadOptions(path=path, transpose=transpose, **more))


def dense(source: Source) -> np.ndarray:
    x = source.read(np.arange(len(source)))
    return x.toarray() if sparse.issparse(x) else x


def require_same(source: Source, table: pd.DataFrame) -> None:
    assert source.genes == tuple(table.columns)
    assert source.obs.index.tolist() == table.index.tolist()
    np.testing.assert_array_equal(dense(source), table.to_numpy(dtype=np.float32))


def write_text(path: Path, text: str) -> Path:
    content = text.encode()
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pytest.importorskip("zstandard").compress(content)
    path.write_bytes(content)
    return path


def write(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
        return path
    return write_text(path, table.to_csv(sep="," if ".csv" in path.name else "\t"))


def gct(table: pd.DataFrame, version: str = "1.2", id_column: bool = False) -> str:
    """Write samples × genes as GCT, with symbols and, in version 1.3, a tissue per sample."""
    symbols = [f"sym {gene}" for gene in table.columns]
    lead = ["id"] if id_column else []
    lines = [f"#{version}", f"{table.shape[1]}\t{table.shape[0]}" + ("\t1\t2" if version == "1.3" else "")]
    lines.append("\t".join([*lead, "id" if version == "1.3" else "Name", "Description", *table.index]))
    if version == "1.3":
        lines.append("\t".join(["tissue", "na", *(f"t{at % 2}" for at in range(len(table)))]))
        lines.append("\t".join(["age", "na", *("na" if at == 1 else str(at) for at in range(len(table)))]))
    for at, gene in enumerate(table.columns):
        row = [str(at)] if id_column else []
        lines.append("\t".join([*row, gene, symbols[at], *map(repr, table[gene].tolist())]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def table() -> pd.DataFrame:
    values = np.random.default_rng(0).poisson(3, (5, 12)) + np.array([0.25, 0, 0, 0, 0])[:, None]
    values[3, 4] = np.nan
    return pd.DataFrame(values, index=SAMPLES, columns=GENES)


@pytest.fixture(scope="session")
def bulk(shared_data: Callable[[str], Path]) -> pd.DataFrame:
    """Sixty real samples of three thousand genes."""
    found = anndata.read_h5ad(shared_data("bulk_gtex_tcga_rnaseqdb.h5ad"))[:60, :3000].to_memory().to_df()
    return found.rename_axis(index=None, columns=None)


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["memory", "disk"])
@pytest.mark.parametrize("genes_down", [False, True])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.zst", "t.tsv", "t.txt.gz", "t.parquet"])
def test_tables_come_back(tmp_path, table, name, genes_down, keep):
    path = write(tmp_path / name, table.T if genes_down else table)
    assert is_table(path)
    require_same(opened(path, keep=keep), table)
    require_same(opened(path, transpose=genes_down, keep=keep), table)
    turned = opened(path, transpose=not genes_down, keep=keep)
    require_same(turned, table.T)
    assert opened(path).name == str(path)
    assert opened(path).obs.shape == (5, 0)


@pytest.mark.parametrize("id_column", [False, True])
@pytest.mark.parametrize("name", ["t.gct", "t.gct.gz"])
def test_gct_comes_back(tmp_path, table, name, id_column):
    source = opened(write_text(tmp_path / name, gct(table, id_column=id_column)))
    require_same(source, table)
    assert source.aliases["symbol"] == tuple(f"sym {gene}" for gene in GENES)
    require_same(opened(tmp_path / name, transpose=True), table)
    with pytest.raises(DataError, match="rows are genes by definition"):
        opened(tmp_path / name, transpose=False)


def test_gct_1_3_describes_rows_and_columns(tmp_path, table):
    source = opened(write_text(tmp_path / "t.gct", gct(table, "1.3")))
    require_same(source, table)
    assert dict(source.aliases) == {"symbol": tuple(f"sym {gene}" for gene in GENES)}
    expected = {"tissue": ["t0", "t1", "t0", "t1", "t0"], "age": [0, np.nan, 2, 3, 4]}
    pd.testing.assert_frame_equal(source.obs, pd.DataFrame(expected, index=SAMPLES))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_text_beside_the_names(tmp_path, table, name):
    genes = table.T
    genes.insert(0, "gene_name", [f"sym {gene}" for gene in GENES])
    source = opened(write(tmp_path / name, genes))
    require_same(source, table)
    assert dict(source.aliases) == {"gene_name": tuple(f"sym {gene}" for gene in GENES)}
    samples = table.copy()
    samples.insert(0, "tissue", ["a", "b", "a", "b", "c"])
    source = opened(write(tmp_path / name, samples))
    require_same(source, table)
    assert source.obs["tissue"].tolist() == ["a", "b", "a", "b", "c"]
    assert not source.aliases


def test_tables_of_other_programs(tmp_path, table):
    table = table.fillna(0)
    lines = [f"G{at}\tchr1\t{at}\t{at + 9}\t+\t10\t" + "\t".join(map(str, table[f"G{at}"])) for at in range(12)]
    header = "\t".join(["Geneid", "Chr", "Start", "End", "Strand", "Length", *SAMPLES])
    counts = write_text(tmp_path / "t.txt", "# Program:featureCounts v2\n" + "\n".join([header, *lines]) + "\n")
    source = opened(counts)
    require_same(source, table)
    assert not source.aliases
    r = table.T.map(str).to_csv(sep=" ", quoting=1)  # every field quoted, and the header one field short
    require_same(opened(write_text(tmp_path / "r.txt", r.split(" ", 1)[1])), table)
    excel = "\ufeff" + table.to_csv(sep=";", lineterminator="\r\n")
    require_same(opened(write_text(tmp_path / "excel.csv", excel)), table)
    entrez = table.T
    entrez.insert(0, "Entrez_Gene_Id", range(100, 112))
    source = opened(write(tmp_path / "t.csv", entrez))
    require_same(source, table)
    assert source.aliases["Entrez_Gene_Id"][0] == "100"
    numbered = table.T.rename_axis("gene").reset_index()  # written with an index that nobody set
    require_same(opened(write(tmp_path / "t.csv", numbered)), table)


@pytest.mark.parametrize("end", ["rows", "header", "both"])
def test_separators_at_the_end_are_no_columns(tmp_path, end):
    lines = [f"G{at}\t{at}\t{at + 10}\t" for at in range(4)]
    header = "gene\tS0\tS1" + ("\t" if end != "rows" else "")
    lines = lines if end != "header" else [line[:-1] for line in lines]
    text = "\n".join([header, *lines]) + "\n"
    expected = pd.DataFrame([[0, 1, 2, 3], [10, 11, 12, 13]], index=["S0", "S1"], columns=[f"G{at}" for at in range(4)])
    path = write_text(tmp_path / "t.tsv", text)
    require_same(opened(path), expected)
    assert read_table(path).columns.tolist() == ["gene", "S0", "S1"]


def test_a_column_without_a_title_is_refused(tmp_path):
    path = write_text(tmp_path / "t.tsv", "S0\tS1\t\nG0\t1\t2\nG1\t3\t4\n")
    for read in (opened, read_table):
        with pytest.raises(DataError, match=r"last has no title.*begin the header with a separator"):
            read(path)


@pytest.mark.parametrize("name", ["t.txt", "t.tsv", "t.csv"])
def test_columns_aligned_with_spaces(tmp_path, table, name):
    text = table.T.fillna(0).to_string() + "\n"
    require_same(opened(write_text(tmp_path / name, text)), table.fillna(0))
    quoted = text.replace("G11", '"G 11"')
    assert opened(write_text(tmp_path / name, quoted)).genes[-1] == "G 11"


SUMMARIES = ["__no_feature", "not_aligned", "N_unmapped", "Unassigned_NoFeatures", "Total reads"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("genes_down", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_what_describes_samples_is_not_a_gene(tmp_path, table, suffix, genes_down, first):
    others = pd.DataFrame(
        {name: range(at, at + 5) for at, name in enumerate([*SUMMARIES, "age", "BMI"])}, index=SAMPLES
    )
    joined = pd.concat([others, table] if first else [table, others], axis=1)
    path = write(tmp_path / f"t{suffix}", joined.T if genes_down else joined)
    source = opened(path, transpose=genes_down)
    require_same(source, table)
    pd.testing.assert_frame_equal(source.obs.astype("int64"), others)
    with pytest.raises(DataError, match=r"has no genes: __no_feature.*--metadata"):
        opened(write(path, others.T if genes_down else others), transpose=genes_down)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("at", [0, 5, 12])
def test_words_among_the_genes_are_metadata(tmp_path, table, suffix, at):
    text = table.copy()
    text.insert(at, "subtype of tumour", ["a", "b", "a", None, "c"])
    source = opened(write(tmp_path / f"t{suffix}", text), transpose=False)
    require_same(source, table)
    assert source.obs["subtype of tumour"].tolist()[:3] == ["a", "b", "a"]


def test_real_gene_names_do_not_describe_samples(bulk, shared_data):
    symbols = pd.read_csv(shared_data("annot/human_protein_coding_hgnc.tsv.gz"), sep="\t", dtype=str)["symbol"]
    assert not any(map(describes_samples, [*bulk.columns, *symbols]))
    assert all(map(describes_samples, ["cell.type", "nCount_RNA", "percent.mt", "OS.time", "Age at diagnosis"]))


@pytest.mark.parametrize("first", ["N_unmapped\t7\t8\t9", "TP53\t0", "G0\t5"])
def test_a_table_without_a_header_is_refused(tmp_path, first):
    width = first.count("\t")
    rows = "".join(f"{name}{width * chr(9)}".replace("\t", "\t4") + "\n" for name in ("ACTB", "__no_feature"))
    path = write_text(tmp_path / "t.tsv", f"{first}\n{rows}")
    with pytest.raises(DataError, match=r"has no header: its first line is.*printf 'gene\\tsample1"):
        opened(path)


def test_names_stay_as_they_are(tmp_path):
    names = ["007", "NA", 'say "x"', "a,b", "two\nlines", "NA", "1.50", ""]
    table = pd.DataFrame(np.arange(24).reshape(8, 3), index=names, columns=["1", "02", "1"])
    require_same(opened(write(tmp_path / "t.csv", table), transpose=True), table.T)
    require_same(opened(write(tmp_path / "t.csv", table), transpose=False), table)


def test_missing_and_extreme_values(tmp_path):
    values = ["", "NA", "nan", " 5 ", "-1.5e-3", "16777216", "inf", "1e30", '"7"', "0.1"]
    path = write_text(tmp_path / "t.csv", "x,s\n" + "".join(f"g{at},{value}\n" for at, value in enumerate(values)))
    expected = np.float32([np.nan, np.nan, np.nan, 5, -1.5e-3, 16777216, np.inf, 1e30, 7, 0.1])
    with pytest.raises(DataError, match="too large for float32"):  # 1e30 is whole
        opened(path)
    write_text(path, path.read_text().replace("1e30", "1e-30"))
    expected[7] = 1e-30
    np.testing.assert_array_equal(dense(opened(path))[0], expected)
    write_text(path, "x,s\ng1,16777217\n")
    with pytest.raises(DataError, match=r"t\.csv .lines 2 to 2. has 1 counts that are too large for float32"):
        opened(path)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9)),
    block=st.sampled_from([1, 20, 10**6]),
    genes_down=st.booleans(),
    data=st.data(),
)
def test_blocks_of_any_size_give_the_same(tmp_path_factory, shape, block, genes_down, data):
    values = st.sampled_from([0.0, 1.0, 2.5, 123.0, np.nan, -1.0])
    rows = data.draw(
        st.lists(st.lists(values, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
    )
    table = pd.DataFrame(rows, index=[f"r{at}" for at in range(shape[0])], columns=[f"c{at}" for at in range(shape[1])])
    path = write(tmp_path_factory.mktemp("table") / "t.csv", table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK", block)
        require_same(opened(path, transpose=genes_down), table.T if genes_down else table)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv.gz", "t.parquet", "t.gct"])
def test_real_bulk_comes_back(tmp_path, bulk, name):
    text = gct(bulk) if name == "t.gct" else None
    path = write_text(tmp_path / name, text) if text else write(tmp_path / name, bulk.T)
    require_same(opened(path), bulk)


@pytest.mark.parametrize("genes_down", [False, True])
def test_a_table_larger_than_the_blocks_streams(tmp_path, monkeypatch, genes_down):
    monkeypatch.setattr(delimited, "BLOCK", 2**16)
    monkeypatch.setattr(grid, "transposed", partial(grid.transposed, n_bytes=2**20))
    shape = (4000, 1000)  # 16 MB as float32
    row = ",".join(["7"] * shape[1])
    header = "x," + ",".join(f"c{at}" for at in range(shape[1])) + "\n"
    path = write_text(tmp_path / "t.csv.gz", header + "".join(f"r{at},{row}\n" for at in range(shape[0])))
    del header
    tracemalloc.start()
    try:
        source = opened(path, transpose=genes_down, keep="disk")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(source), len(source.genes)) == (shape[::-1] if genes_down else shape)
    assert dense(source).min() == 7
    assert peak < 6 * 2**20


def test_real_airway_is_told_by_its_ensembl_ids(shared_data, tmp_path):
    airway = anndata.read_h5ad(shared_data("bulk_airway_inmoose.h5ad")).to_df()[:8].iloc[:, :2000]
    require_same(opened(write(tmp_path / "t.csv", airway.T)), airway)
    few = airway.iloc[:, :4]  # fewer genes than samples: size alone would mislead
    require_same(opened(write(tmp_path / "t.csv", few)), few)
    require_same(opened(write(tmp_path / "t.csv", few.T)), few)


# --- which side is genes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (["GAPDH", "x"], ["a", "b", "c"], True),
        (["a", "b", "c"], ["Gapdh", "x"], False),
        (["ENSG00000000003.15"], ["a", "b"], True),
        (["GTEX-1117F-0226-SM-5GZZ7", "x y"][:1], ["a"], False),
        (["a"], ["TCGA-AA-3489-01A", "TCGA-AA-3490-01A"], True),
        (["AAACCTGAGAAACCAT-1", "AAACCTGAGAAACCTA-1"], ["a"], False),
        (["a", "b", "c"], ["d", "e"], True),
        (["a", "b"], ["d", "e", "f"], False),
        (["a", "b"], ["c", "d"], False),
        (["TP53", "KRAS"], ["GAPDH", "ACTB", "x", "y"], False),  # genes that were knocked out × genes
        (["YAL001C"], ["a", "b"], True),
    ],
)
def test_names_tell_the_genes(rows, columns, expected):
    assert genes_in_rows(rows, columns, lambda: len(rows)) is expected


def test_gene_names_of_real_data_are_not_sample_names(bulk):
    assert not any(is_likely_sample(gene) for gene in bulk.columns)
    assert not any(is_likely_gene(name) for name in bulk.index)
    assert sum(map(is_likely_gene, bulk.columns)) > 30


def test_rows_are_counted_only_if_need_be(tmp_path):
    rows = "".join(f"r{at},1,2\n" for at in range(delimited.PEEK + 10))
    source = opened(write_text(tmp_path / "t.csv", "x,a,b\n" + rows))
    assert (len(source), len(source.genes)) == (2, delimited.PEEK + 10)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.csv", True), ("a.CSV.GZ", True), ("a.gct.zst", True), ("a.b.txt", True), ("a.parquet", True)]
    + [(name, False) for name in ("a.h5ad", "matrix.mtx.gz", "csv", "a.gz", "a")],
)
def test_tables_are_told_by_suffix(tmp_path, name, expected):
    assert is_table(tmp_path / name) is expected
    (tmp_path / name).mkdir()
    assert not is_table(tmp_path / name)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("x,a,b\n", "no rows below the header"),
        ("x,a,b\ng1,1,2\ng2,1,oops\n", r"line 3, has 'oops' in column 'b', where a number is expected"),
        ("x,a,b\ng1,1,2\n\ng2,True,1\n", "line 4, has 'True' in column 'a'"),
        ('x,a,b\ng1,1,2\ng2,"1,000",1\n', "line 3, has '1,000' in column 'a'"),
        ("x,a,b\ng1,1,2\ng2,1_0,1\n", "line 3, has '1_0' in column 'a'"),
        ("x,a,b\ng1,1,2\ng2,1\n", "line 3, has 2 fields where the header has 3"),
        ("x,a,b\ng1,1,2\ng2,1,2,3\n", "line 3, has 4 fields where the header has 3"),
        ("x\ta\tb\n", "no rows below the header"),
        ("x\ng1\ng2\n", "has no column of numbers"),
        ("x;a;b\ng1;1,5;2,5\n", r"has no column of numbers.*'2,5'.*decimal points"),
        ("x,a,b\ng1,u,v\n", "has no column of numbers"),
        ("A,B,C\n0,1.5,2\n0,1,2\n", r"numbers \(0, 0\) in its first column, where names are expected.*--no-names"),
        ("g1,0,0,5\ng2,1,0,2\n", r"numbers \(0, 0, 5\) in its first row, where names are expected.*--no-names"),
        ("x,a\ng1,\x001\n", "zero byte"),
    ],
)
def test_bad_text_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as raised:
        opened(write_text(tmp_path / "t.csv", text))
    assert "t.csv" in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#1.2", "#1.4", "not a GCT file: it starts with '#1.4'"),
        ("12\t5", "12", "'12' in its second line, where 2 integers"),
        ("12\t5", "12\tx", "integers"),
        ("12\t5", "13\t5", "has 12 rows, but its second line states 13"),
        ("12\t5", "12\t9", "states 9 samples"),
        ("G3\tsym G3", "G3", "fields where the header has"),
    ],
)
def test_bad_gct_is_refused(tmp_path, table, old, new, message):
    with pytest.raises(DataError, match=message):
        opened(write_text(tmp_path / "t.gct", gct(table).replace(old, new)))


def test_bad_parquet_is_refused(tmp_path, table):
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    for bad, message in [
        (table.reset_index(drop=True), "has no row names"),
        (table.assign(G5=pd.Timestamp("2020-01-01")), "timestamp.* in column 'G5'"),
        (table.astype(str), "has no numbers"),
        (table.iloc[:0], "no rows"),
    ]:
        bad.to_parquet(path)
        with pytest.raises(DataError, match=message):
            opened(path)
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as parquet"):
        opened(path)


def test_kinds_of_numbers_in_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, np.nan]}, index=["r1", "r2"])
    table["d"] = pd.array([3, None], dtype="Int64")
    table["e"] = np.array([7, 8], dtype=np.uint8)
    table.to_parquet(tmp_path / "t.parquet")
    expected = [[1, 1, 0.5, 3, 7], [2, 0, np.nan, np.nan, 8]]
    np.testing.assert_array_equal(dense(opened(tmp_path / "t.parquet", transpose=False)), np.float32(expected))


def test_what_a_table_has_not_is_refused(tmp_path, table):
    path = write(tmp_path / "t.csv", table)
    with pytest.raises(DataError, match="has no layers"):
        opened(path, layer="counts")
    with pytest.raises(DataError, match=r"Did you mean 't\.csv'"):
        opened(tmp_path / "tt.csv")
    with pytest.raises(DataError, match="not a table of a known format"):
        opened(write_text(tmp_path / "t.xls", "x"))
    with pytest.raises(DataError, match="Decompress it"):
        opened(write_text(tmp_path / "t.parquet.gz", "x"))


# --- damage -----------------------------------------------------------------------------------------------------------


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit, cut some or all that follows, or insert, once or twice."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(0, len(changed))) if rng.random() < 0.7 else int(rng.integers(0, min(len(changed), 300)))
        kind = rng.choice(["flip", "cut", "insert", "repeat"], p=[0.4, 0.2, 0.2, 0.2])
        if kind == "flip":
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == "cut":
            del changed[at : at + int(rng.choice([1, 1, 7, 300, len(changed)]))]
            changed += b"" if changed else b"x"
        elif kind == "insert":
            changed[at:at] = rng.choice([b'"', b"\n", b"\t", b",", b"\0", b"nan", b"1e999", b"-", b"\r", b"#", b"\xff"])
        else:
            changed[at:at] = changed[at : at + int(rng.choice([1, 9, 300]))]
    return bytes(changed)


def require_table_or_data_error(folder: Path, bulk: pd.DataFrame, n: int) -> int:
    pytest.importorskip("pyarrow")
    small = bulk.iloc[:8, :60]
    named = small.T
    named.insert(0, "symbol", [f"sym {gene}" for gene in named.index])
    originals = {
        "t.csv": named.to_csv().encode(),
        "t.csv.gz": gzip.compress(named.to_csv().encode()),
        "t.gct": gct(small, "1.3").encode(),
        "t.parquet": write(folder / "original.parquet", named).read_bytes(),
    }
    rng, n_loaded = np.random.default_rng(0), 0
    for name, content in originals.items():
        for _ in range(n):
            (folder / name).write_bytes(mutate(content, rng))
            try:
                source = opened(folder / name)
            except DataError:
                pass
            else:
                assert dense(source).shape == (len(source), len(source.genes))
                n_loaded += 1
            if name != "t.gct":
                with contextlib.suppress(DataError):
                    assert len(read_table(folder / name))
    return n_loaded


def test_damage_is_a_table_or_a_data_error(tmp_path, bulk):
    assert 0 < require_table_or_data_error(tmp_path, bulk, 10) < 40


@pytest.mark.slow
def test_much_damage_is_a_table_or_a_data_error(tmp_path, bulk):
    assert 0 < require_table_or_data_error(tmp_path, bulk, 1000) < 4000
