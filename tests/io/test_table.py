"""Tables of metadata: what is text stays text, what is damaged is named, and joining never moves a cell."""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.errors import DataError
from genevae.io.tables.metadata import join_metadata, read_table

TABLE = pd.DataFrame(
    {
        "barcode": ["AACG-1", "AACT-1", "AAGG-1"],
        "plate": ["007", "010", "100"],
        "age": [31, 47, 0],
        "dose": [0.5, -1e-3, 20.0],
        "note": ['said "no"', "a, b\tc", "two\nlines"],
    }
)


def packed(path: Path, content: bytes) -> Path:
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pytest.importorskip("zstandard").compress(content)
    path.write_bytes(content)
    return path


def write(path: Path, text: str) -> Path:
    return packed(path, text.encode())


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "txt"])
def test_text_comes_back(tmp_path, kind, packing):
    text = TABLE.to_csv(index=False, sep="," if kind == "csv" else "\t")
    found = read_table(write(tmp_path / f"table.{kind}{packing}", text))
    pd.testing.assert_frame_equal(found, TABLE)


def test_parquet_comes_back(tmp_path):
    pytest.importorskip("pyarrow")
    table = TABLE.assign(kind=pd.Categorical(["a", "b", "a"]), day=pd.to_datetime(["2020-01-01"] * 3))
    table.to_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "table.parquet"), table)
    table.set_index("barcode").to_parquet(tmp_path / "indexed.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "indexed.parquet"), table)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["7", "-12", "0"], [7, -12, 0]),
        (["7", " 2.50", "1e3", "0"], [7.0, 2.5, 1000.0, 0.0]),
        (["7", "", "NA"], [7.0, np.nan, np.nan]),
        (["7", "007"], ["7", "007"]),
        (["a", "", "7"], ["a", np.nan, "7"]),
        (["1_0", "7"], ["1_0", "7"]),
        (["None", "7"], ["None", "7"]),  # a treatment, as often as not
        (["True", "False"], ["True", "False"]),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"]),
        (["9007199254740993", ""], ["9007199254740993", np.nan]),  # float64 would make it …992
        (["9007199254740993", "1"], [9007199254740993, 1]),
        (["", "NA"], [np.nan, np.nan]),
    ],
)
def test_only_plain_numbers_become_numbers(tmp_path, values, expected):
    rows = "".join(f"c{at},{value}\n" for at, value in enumerate(values))
    found = read_table(write(tmp_path / "table.csv", f"cell,x\n{rows}"))["x"]
    pd.testing.assert_series_equal(found, pd.Series(expected, name="x"), check_exact=True)


def test_files_of_other_programs(tmp_path):
    bom = write(tmp_path / "excel.csv", "\ufeffcell;x\r\nc1;1\r\n\r\nc2;2\r\n")
    assert read_table(bom).to_dict("list") == {"cell": ["c1", "c2"], "x": [1, 2]}
    r = write(tmp_path / "r.txt", '"x" "y"\n"c 1" 1 "a"\n"c 2" 2 "b"\n')
    assert read_table(r).to_dict("list") == {"": ["c 1", "c 2"], "x": [1, 2], "y": ["a", "b"]}
    remark = write(tmp_path / "remark.tsv", "# Program: x v1.2\n##more\nid\tx\nc1\t1\n")
    assert read_table(remark).to_dict("list") == {"id": ["c1"], "x": [1]}
    hash_header = write(tmp_path / "bed.tsv", "#id\tx\nc1\t1\n")
    assert list(read_table(hash_header)) == ["#id", "x"]
    inches = write(tmp_path / "inches.csv", 'id,size\na,5" pipe\nb,6\n')
    assert read_table(inches)["size"].tolist() == ['5" pipe', "6"]


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)


@given(rows=st.lists(st.lists(TEXTS, min_size=2, max_size=2), min_size=1, max_size=8))
def test_any_text_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    names = [[f"c{at}-{first}", f"v-{second}"] for at, (first, second) in enumerate(rows)]
    pd.DataFrame(names, columns=["cell", "x"]).to_csv(path, index=False, lineterminator="\r\n")
    assert read_table(path).to_numpy().tolist() == names


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\n\n", "is empty"),
        ("t.csv", b"a,b\n", r"is empty: it has no rows below the header \(a, b\)"),
        ("t.csv", b"a,b\n1,2\n3\n", r"line 3, has 1 fields where the header has 2: '3'"),
        ("t.csv", b"a,b\n1,2\n\n3,4,5\n", "line 4, has 3 fields"),
        ("t.csv", b'a,b\n"x\ny",2\n3\n', "line 4, has 1 fields"),
        ("t.csv", b"a,b,a\n1,2,3\n", "several columns with the same name: a"),
        ("t.csv", b"a,b\n1,\xff\n", "not text in UTF-8"),
        ("t.csv", b"a,b\n1,\x00\n", "line 2 has a zero byte"),
        ("t.csv", b'a,b\n"1,2\n' + b"3,4\n" * 200, "line 2, has a quote"),
        ("t.csv", b'a,b\n"1"x,"2"\n', "line 2, cannot be split"),
        ("t.csv.gz", b"a,b\n1,2\n", "truncated or damaged"),
        ("t.csv.zst", b"a,b\n1,2\n", "truncated or damaged"),
        ("t.parquet", b"a,b\n1,2\n", "cannot be read as parquet"),
        ("t.parquet.gz", b"a,b\n1,2\n", "Decompress it"),
        ("t.pkl", b"x", "convert it to parquet"),
        ("t.xlsx", b"x", r"Give \.csv"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_table(path)
    assert name in str(raised.value)


def test_missing_files_name_their_neighbours(tmp_path):
    write(tmp_path / "donors.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match=r"Did you mean 'donors\.csv'"):
        read_table(tmp_path / "donor.csv")
    with pytest.raises(DataError, match="does not exist either"):
        read_table(tmp_path / "nowhere" / "donors.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_packed_files_that_were_cut_short_are_refused(tmp_path, packing):
    text = "a,b\n" + "".join(f"{number},{number**3}\n" for number in range(3000))
    path = write(tmp_path / f"t.csv{packing}", text)
    content = path.read_bytes()
    assert len(read_table(path)) == 3000
    path.write_bytes(content + content)  # as by `cat`; the second header is a row like others
    assert len(read_table(path)) == 6001
    for n in (5, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:n])
        with pytest.raises(DataError, match="truncated or damaged"):
            read_table(path)


@pytest.mark.parametrize(("package", "name"), [("zstandard", "t.csv.zst"), ("pyarrow", "t.parquet")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package, name):
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.parquet", None)
    with pytest.raises(DataError, match=r"pip install 'genevae\[formats\]'"):
        read_table(tmp_path / name)


# --- joining ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def obs() -> pd.DataFrame:
    columns = {"donor": pd.Categorical(["7", "8", "7", "9"]), "age": [1, 2, 3, 4]}
    return pd.DataFrame(columns, index=["c1", "c2", "c2", "c3"])  # a name may come twice: the inspection says so


def test_cells_are_matched_by_name(obs):
    before = obs.copy()
    table = pd.DataFrame({"cell": ["c3", "c2", "zz"], "sex": ["f", "m", "f"], "n": [1, 2, 3]})
    joined = join_metadata(obs, {"t.csv": table}, None)
    assert joined.index.tolist() == ["c1", "c2", "c2", "c3"]
    assert joined.columns.tolist() == ["donor", "age", "sex", "n"]
    assert joined["sex"].tolist()[1:] == ["m", "m", "f"]
    assert joined.loc["c1", ["sex", "n"]].isna().all()
    assert joined["donor"].dtype == obs["donor"].dtype
    pd.testing.assert_frame_equal(obs, before)


@pytest.mark.parametrize("its_key", ["donor", "id"])
@pytest.mark.parametrize("keys", [[9, 8, 7], [9.0, 8.0, 7.0], ["9", "8", "7"]])
def test_cells_are_matched_by_a_column(obs, its_key, keys):
    table = pd.DataFrame({its_key: keys, "age": [90, 80, 70]})
    table = table if its_key == "id" else table[["age", "donor"]]
    joined = join_metadata(obs, {"t.csv": table}, "donor")
    assert joined["age"].tolist() == [70, 80, 70, 90]  # the table's column takes the place of that of the cells
    assert joined["age"].dtype == np.int64
    assert joined.columns.tolist() == ["donor", "age"]


def test_the_key_may_be_any_column_of_the_table(obs):
    table = pd.DataFrame({"TSNE.1": 0.5, "barcode": ["c1", "c2", "other"], "celltype": ["B", "T", "B"]})
    joined = join_metadata(obs, {"t.csv": table}, None)
    assert joined["celltype"].tolist()[:3] == ["B", "T", "T"]
    assert pd.isna(joined["celltype"].iloc[3])
    assert "barcode" not in joined


def test_rows_of_one_key_must_agree(obs):
    table = pd.DataFrame({"cell": ["c1", "c2", "c1", None, None], "x": [1, 2, 1, 3, 4], "y": [np.nan, 1, np.nan, 1, 1]})
    assert join_metadata(obs, {"t.csv": table}, None)["x"].tolist()[:3] == [1, 2, 2]
    table.loc[2, "x"] = 5
    with pytest.raises(DataError, match=r"t\.csv has several different rows for 1 keys: c1\."):
        join_metadata(obs, {"t.csv": table}, None)


def test_nothing_that_matches_is_an_error(obs):
    table = pd.DataFrame({"cell": ["c1-1", "c2-1"], "x": [1, 2]})
    with pytest.raises(DataError, match="'cell' has 'c1-1', 'c2-1', but the cells are named 'c1', 'c2', 'c3'"):
        join_metadata(obs, {"t.csv": table}, None)
    with pytest.raises(DataError, match="Did you mean 'donor'"):
        join_metadata(obs, {"t.csv": table}, "Donors")
    with pytest.raises(DataError, match="adds nothing"):
        join_metadata(obs, {"t.csv": table[["cell"]]}, None)
    assert join_metadata(obs.iloc[:0], {"t.csv": table}, None).columns.tolist() == ["donor", "age", "x"]


def test_several_tables_are_joined_by_a_column_of_theirs(obs):
    sexes = pd.DataFrame({"sex": ["f", "m", "f"], "id": ["c3", "c2", "c1"]})
    sites = pd.DataFrame({"id": ["c1", "c3"], "site": ["x", "y"]})
    joined = join_metadata(obs, {"a.csv": sexes, "b.csv": sites}, table_key="id")
    assert joined.columns.tolist() == ["donor", "age", "sex", "site"]
    assert joined["sex"].tolist() == ["f", "m", "m", "f"]
    assert joined["site"].fillna("").tolist() == ["x", "", "", "y"]
    donors = pd.DataFrame({"sex": ["f", "m"], "ID": [7, 8]})
    assert join_metadata(obs, {"a.csv": donors}, "donor", "ID")["sex"].fillna("").tolist() == ["f", "m", "f", ""]
    with pytest.raises(DataError, match=r"a\.csv and b\.csv both have site"):
        join_metadata(obs, {"a.csv": sites, "b.csv": sites}, table_key="id")
    with pytest.raises(DataError, match=r"b\.csv has no column 'ids'.*'id'"):
        join_metadata(obs, {"b.csv": sites}, table_key="ids")


@pytest.mark.parametrize("how", [{"key": "donor"}, {"table_key": "donor"}], ids=str)
def test_tables_by_an_obs_column_and_by_cell_are_joined_in_one_command(obs, how):
    sexes = pd.DataFrame({"sex": ["f", "m", "f"], "donor": [7, 8, 9]})
    ages = pd.DataFrame({"donor": [9, 8, 7], "years": [30, 20, 10]})
    types = pd.DataFrame({"cell": ["c1", "c2", "c3"], "type": ["T", "B", "NK"]})
    joined = join_metadata(obs, {"a.csv": sexes, "b.csv": ages, "c.csv": types}, **how)
    assert joined["sex"].tolist() == ["f", "m", "f", "f"]
    assert joined["years"].tolist() == [10, 20, 10, 30]
    assert joined["type"].tolist() == ["T", "B", "B", "NK"]


@pytest.mark.parametrize(
    ("table", "how", "option"),
    [
        ({"id": ["x", "y"], "donor": ["7", "9"]}, {}, "--key donor"),
        ({"id": ["x", "y"], "the donor": [7, 9]}, {}, "--key donor --metadata-key 'the donor'"),
        ({"cell": ["c1", "c3"], "donor": ["d1", "d2"]}, {"key": "donor"}, "--metadata-key cell"),
        ({"id": ["x", "y"], "sex": ["f", "m"]}, {}, "No column of the cells shares"),
    ],
    ids=str,
)
def test_a_key_that_does_not_match_is_an_error_with_one_that_does(obs, table, how, option):
    with pytest.raises(DataError, match=option) as told:
        join_metadata(obs, {"t.csv": pd.DataFrame(table)}, **how)
    options = re.findall(r"--(key|metadata-key) ('.*?'|\w+)", str(told.value))
    keys = {"key" if option == "key" else "table_key": value.strip("'") for option, value in options}
    if keys:
        join_metadata(obs, {"t.csv": pd.DataFrame(table)}, **keys)


@given(
    ours=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    theirs=st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True),
)
def test_joining_is_looking_up(ours, theirs):
    cells = pd.DataFrame({"key": ours}, index=[f"c{at}" for at in range(len(ours))])
    table = pd.DataFrame({"key": list(map(str, theirs)), "x": [f"x{key}" for key in theirs]})
    if not set(ours) & set(theirs):
        with pytest.raises(DataError, match="No cell is in"):
            join_metadata(cells, {"t": table}, "key")
        return
    joined = join_metadata(cells, {"t": table}, "key")
    assert joined.index.equals(cells.index)
    assert joined["key"].tolist() == ours
    assert joined["x"].fillna("").tolist() == [f"x{key}" if key in theirs else "" for key in ours]


@pytest.mark.slow
def test_ten_million_cells_are_joined():
    n = 10**7
    cells = pd.DataFrame({"donor": np.arange(n) % 1000}, index=pd.RangeIndex(n).astype(str))
    table = pd.DataFrame({"donor": np.arange(1000).astype(str), "age": np.arange(1000) * 2})
    assert np.array_equal(join_metadata(cells, {"t": table}, "donor")["age"], np.arange(n) % 1000 * 2)
    by_name = join_metadata(cells, {"t": pd.DataFrame({"cell": cells.index[::-1], "x": np.arange(n)})})
    assert np.array_equal(by_name["x"], np.arange(n)[::-1])


def test_the_key_of_the_tables_is_that_of_obs_where_obs_has_it() -> None:
    obs = pd.DataFrame({"run": ["r1", "r2", "r1"]}, index=["a", "b", "c"])
    donors = pd.DataFrame({"donor": ["x", "y"], "run": ["r1", "r2"]})
    sexes = pd.DataFrame({"run": ["r2", "r1"], "sex": ["f", "m"]})
    ages = pd.DataFrame({"cell": ["c", "a", "b"], "age": [3, 1, 2]})
    tables = {"donors": donors, "sexes": sexes, "ages": ages}
    for keys in ({"table_key": "run"}, {"key": "run"}, {"key": "run", "table_key": "run"}):
        found = join_metadata(obs, tables, **keys)
        assert found["donor"].tolist() == ["x", "y", "x"]
        assert found["sex"].tolist() == ["m", "f", "m"]
        assert found["age"].tolist() == [1, 2, 3], "a table without this column is matched with the cell names"


def test_a_key_that_matches_nothing_is_answered_with_one_that_does() -> None:
    obs = pd.DataFrame({"run": ["r1", "r2"]}, index=["a", "b"])
    table = pd.DataFrame({"name": ["u", "v"], "accession": ["r2", "r1"], "donor": ["x", "y"]})
    with pytest.raises(DataError, match="--key run --metadata-key accession"):
        join_metadata(obs, {"table": table})
