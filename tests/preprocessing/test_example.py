"""The example cells: real counts, and a simulated response of known size."""

from __future__ import annotations

import numpy as np
import pytest

from genevae.cli import main
from genevae.errors import DataError
from genevae.io.formats import read
from genevae.preprocessing.example import example

pytest.importorskip("scanpy")


def test_the_simulated_response_is_as_large_as_var_says():
    adata = example("stimulated")
    x = adata.X.toarray()
    stim_n = (adata.obs["perturbation"] == "stim").to_numpy()
    myeloid_n = adata.obs["cell_type"].str.contains("Mono|Dendritic").to_numpy()
    for cells, column in ((myeloid_n, "log_fold_change_myeloid"), (~myeloid_n, "log_fold_change")):
        true_g = adata.var[column].to_numpy()
        total = {state: x[cells & (stim_n == state)].mean(0) for state in (True, False)}
        common_g = (total[True] > 0.5) & (true_g > 0)
        found_g = np.log(total[True][common_g] / total[False][common_g])
        assert common_g.sum() > 5
        assert abs(np.median(found_g) - true_g.max()) < 0.3


def test_it_is_made_of_the_real_cells():
    real, made = example("pbmc"), example("stimulated")
    assert (made.X.toarray() <= real.X.toarray()).all()
    assert set(made.obs) == {"cell_type", "donor", "perturbation"}
    assert (example("stimulated", seed=1).X != made.X).nnz


def test_the_command_writes_it(tmp_path, capsys):
    main(["data", "example", "stimulated", "--out", str(tmp_path / "cells.h5ad")])
    assert "700 cells" in capsys.readouterr().out
    assert (read(tmp_path / "cells.h5ad").X != example("stimulated").X).nnz == 0
    with pytest.raises(DataError, match="pbmc"):
        example("pbmcs")
