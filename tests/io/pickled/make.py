"""Write the tables of this folder: run it once under each version of pandas, as ``python make.py``.

The files here were written by pandas 1.5.3 and 2.0.3 (NumPy 1.26.4), 2.2.3 and 3.0.0 (NumPy 2.4.6), with pyarrow.
"""

from __future__ import annotations

import datetime
import gzip
import pickle
from pathlib import Path

import numpy as np
import pandas as pd

DAYS = ["2020-01-02", "2021-03-04", None, "2022-05-06"]


def common(index: str) -> pd.DataFrame:
    """Columns as metadata of cells have them; an index of names, of two levels, or none."""
    table = pd.DataFrame(
        {
            "type": ["T", "B", None, "T"],
            "donor": pd.Categorical(["d1", "d2", None, "d1"], categories=["d2", "d1", "d3"]),
            "stage": pd.Categorical(["lo", "hi", "lo", "hi"], categories=["lo", "hi"], ordered=True),
            "cluster": pd.Categorical([1, 2, 1, 3]),
            "n_counts": np.array([5, 3, 2**40, 1], dtype=np.int64),
            "n_genes": np.array([5, 3, 9, 1], dtype=np.int32),
            "dose": [0.5, np.nan, 1.5, -1.0],
            "score": np.array([0.5, 2, 1.5, 2.0], dtype=np.float32),
            "doublet": [True, False, False, True],
            "passed": pd.array([1, None, 3, 4], dtype="Int64"),
            "kept": pd.array([True, None, False, True], dtype="boolean"),
            "share": pd.array([0.5, None, 1, 2], dtype="Float64"),
            "tissue": pd.array(["lung", None, "liver", "é"], dtype="string"),
            "mixed": ["a", 1, 2.5, None],
        }
    )
    if index == "named":
        table.index = pd.Index([f"AAC-{n}" for n in range(4)], name="barcode")
    if index == "numbered":
        table.index = pd.Index([5, 3, 8, 1])
    if index == "levels":
        table.index = pd.MultiIndex.from_tuples([("a", n) for n in range(4)], names=["sample", "n"])
    return table


def times() -> pd.DataFrame:
    """Times, intervals, and single values in columns of objects; an index of categories."""
    table = pd.DataFrame(
        {
            "day": pd.to_datetime(DAYS),
            "utc": pd.to_datetime(DAYS).tz_localize("UTC"),
            "berlin": pd.to_datetime(DAYS).tz_localize("Europe/Berlin"),
            "waited": pd.to_timedelta([1, 2, None, 4], unit="h"),
            "bin": pd.cut(np.array([0.5, 2, 1.5, 2.0]), [-2, 1, 3], right=False),
            "arrow": pd.array(["lung", None, "", "é"], dtype="string[pyarrow]"),
            "small": np.arange(4, dtype=np.uint8),
        },
        index=pd.CategoricalIndex(list("aabc")),
    )
    table["dates"] = pd.Series(
        [
            pd.Timestamp("2020-01-01 10:00"),
            datetime.datetime(2020, 1, 1, 2, 3, 4, 5),
            datetime.date(2020, 1, 1),
            pd.NaT,
        ],
        index=table.index,
        dtype=object,
    )
    table["single"] = pd.Series([pd.NA, np.float32(2), np.bool_(True), np.str_("é")], index=table.index, dtype=object)
    return table


def write() -> None:
    """Write each table by protocols 2 and 5, and two of them by 4."""
    tables = {index: common(index) for index in ("named", "counted", "numbered", "levels")} | {"times": times()}
    for name, table in tables.items():
        for protocol in (2, 4, 5) if name in ("named", "times") else (2, 5):
            path = Path(__file__).with_name(f"{name}-{pd.__version__}-{protocol}.pkl.gz")
            path.write_bytes(gzip.compress(pickle.dumps(table, protocol=protocol), mtime=0))


if __name__ == "__main__":
    write()
