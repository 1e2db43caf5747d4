"""An array that is written as it comes is the array, and its tables name its rows and columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from genevae.errors import RunError
from genevae.io.write.npy import require_npy, write_npy


def tables(n: int, g: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    obs = pd.DataFrame({"type": ["T"] * n}, index=[f"c{i}" for i in range(n)])
    return obs, pd.DataFrame(index=[f"G{i}" for i in range(g)])


@given(n=st.integers(1, 40), g=st.integers(1, 9), at=st.integers(1, 40), stored=st.booleans(), wide=st.booleans())
def test_pieces_make_the_whole(n, g, at, stored, wide, tmp_path_factory):
    path = tmp_path_factory.mktemp("npy") / "x.npy"
    x = np.random.default_rng(n).poisson(0.7, (n, g)).astype("float64" if wide else "float32")
    pieces = [
        {"obs/support": np.arange(n)[i : i + at], "X": sparse.csr_matrix(x[i : i + at]) if stored else x[i : i + at],
         "layers/lower": -x[i : i + at]}
        for i in range(0, n, at)
    ]  # fmt: skip
    write_npy(path, pieces, *tables(n, g))
    read = np.load(path)
    assert read.dtype == x.dtype
    np.testing.assert_array_equal(read, x)
    obs = pd.read_csv(path.with_suffix(".obs.csv"), index_col="cell")
    assert obs.index.tolist() == [f"c{i}" for i in range(n)]
    assert obs["support"].tolist() == list(range(n))
    assert pd.read_csv(path.with_suffix(".genes.csv"))["gene"].tolist() == [f"G{i}" for i in range(g)]
    assert len(list(path.parent.iterdir())) == 3


def test_an_array_of_no_genes_has_no_table_of_them(tmp_path):
    write_npy(tmp_path / "z.npy", [{"obsm/X_genevae": np.ones((2, 3), np.float32)}], *tables(2))
    assert {file.name for file in tmp_path.iterdir()} == {"z.npy", "z.obs.csv"}


def test_nothing_half_written_stays(tmp_path):
    write_npy(tmp_path / "x.npy", [{"X": np.zeros((2, 3), np.float32)}], *tables(2, 3))

    def breaks():
        yield {"X": np.ones((1, 3), np.float32)}
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        write_npy(tmp_path / "x.npy", breaks(), *tables(2, 3))
    assert {file.name for file in tmp_path.iterdir()} == {"x.npy", "x.obs.csv", "x.genes.csv"}
    assert (np.load(tmp_path / "x.npy") == 0).all()


@pytest.mark.parametrize("name", ["x.npy", "x.obs.csv", "x.genes.csv"])
def test_what_is_there_is_replaced_only_when_forced(name: str, tmp_path: Path):
    (tmp_path / name).touch()
    with pytest.raises(RunError, match="already exists"):
        require_npy(tmp_path / "x.npy", False, ())
    require_npy(tmp_path / "x.npy", True, ())
