"""Results in the user's own file: added to a copy that replaces it, with all else in it as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import genevae as gv
from genevae.cli import main
from genevae.errors import DataError, RunError
from genevae.io.overwrite import require_free

VERBS = {
    "embed": (["embed"], {"obsm/X_genevae", "obsm/X_genevae_scale"}),
    "denoise": (["denoise"], {"layers/denoised", "uns/genevae_denoised"}),
    "counterfactual": (
        ["counterfactual", "--set", "t=A", "--n-draws", "2"],
        {"layers/counterfactual", "obs/counterfactual_support", "uns/genevae_counterfactual",
         *(f"layers/counterfactual_{name}" for name in ("mean", "lower", "upper", "draw"))},
    ),
    "classify": (
        ["classify", "--field", "t"],
        {"obs/t_predicted", "obs/t_probability", "obs/t_set", "obs/t_unknown"},
    ),
}  # fmt: skip
"""For each command, its words, and the elements that it adds."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("into")
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(rng.poisson(2, (40, 12)).astype(np.float32))
    obs = pd.DataFrame({"t": ["A", "B"] * 20, "note": "mine"}, index=[f"c{i}" for i in range(40)])
    cells = anndata.AnnData(x, obs, pd.DataFrame(index=[f"g{i}" for i in range(12)]))
    cells.obsm["X_pca"], cells.uns["title"], cells.layers["twice"] = rng.normal(size=(40, 2)), "mine", x * 2
    cells.write_h5ad(folder / "cells.h5ad")
    model = gv.fit(cells[:, 3:10].copy(), condition=["t"], epochs=1, n_latent=2, hidden=[4], progress=False)
    gv.save(model, folder / "run")
    return folder


def stored(path: Path) -> dict[str, bytes]:
    """Return the bytes of every dataset."""
    found: dict[str, bytes] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = repr(item[()]).encode() + str(dict(item.attrs)).encode()

    with h5py.File(path) as file:
        file.visititems(note)
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_results_are_added_and_all_else_stays(verb, room, tmp_path, capsys) -> None:
    path, link = tmp_path / "cells.h5ad", tmp_path / "link.h5ad"
    shutil.copy(room / "cells.h5ad", path)
    link.symlink_to(path.name)
    before = stored(path)
    words, added = VERBS[verb]
    command = [words[0], str(room / "run"), str(link), *words[1:], "--into", str(link)]
    main(command)
    assert link.is_symlink()
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["cells.h5ad", "link.h5ad"]
    after = stored(path)
    assert {name: after[name] for name in before} == before
    new = {"/".join(name.split("/")[:2]) for name in after.keys() - before.keys()}
    assert new == added
    found, original = anndata.read_h5ad(path), anndata.read_h5ad(room / "cells.h5ad")
    assert found.shape == original.shape
    assert list(found.obs.columns[:2]) == ["t", "note"]
    once = path.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "already. Give --force" in " ".join(capsys.readouterr().err.split())
    assert path.read_bytes() == once
    main([*command, "--force"])
    assert stored(path).keys() == after.keys()
    with pytest.raises(RunError, match="did not write it"):  # the file is still the user's
        require_free(path, True, ())


def test_what_is_added_is_what_would_be_written(room, tmp_path) -> None:
    path, model = tmp_path / "cells.h5ad", gv.load(room / "run")
    shutil.copy(room / "cells.h5ad", path)
    expected = gv.denoise(model, path)
    gv.denoise(model, path, into=path, batch_size=7)
    gv.embed(model, path, into=path)
    found = anndata.read_h5ad(path)
    np.testing.assert_allclose(found.layers["denoised"][:, 3:10], gv.denoise(model, path, batch_size=7).X)
    assert expected.shape == (40, 7)
    assert np.isnan(found.layers["denoised"][:, [0, 1, 2, 10, 11]]).all()
    np.testing.assert_array_equal(found.obsm["X_genevae"], gv.embed(model, room / "cells.h5ad").obsm["X_genevae"])


def test_other_cells_files_and_places_are_refused(room, tmp_path) -> None:
    model, cells = gv.load(room / "run"), anndata.read_h5ad(room / "cells.h5ad")
    shuffled, path = cells[::-1].copy(), tmp_path / "other.h5ad"
    for other, reason in (
        (shuffled, "the cell 'c39' in row 1, where the results have 'c0'"),
        (cells[:9].copy(), "9 cells"),
    ):
        other.write_h5ad(path)
        before = path.read_bytes()
        with pytest.raises(DataError, match=reason):
            gv.embed(model, cells, into=path)
        assert path.read_bytes() == before
    (tmp_path / "notes.csv").write_text("mine")
    with pytest.raises(RunError, match=r"not into .*notes\.csv"):
        gv.embed(model, cells, into=tmp_path / "notes.csv")
    with pytest.raises(RunError, match="not both"):
        gv.embed(model, cells, into=path, out=tmp_path / "new.h5ad")
    with pytest.raises(SystemExit):
        main(["embed", str(room / "run"), str(room / "cells.h5ad")])


def test_a_full_disk_leaves_the_file_as_it_was(room, tmp_path, monkeypatch) -> None:
    path, model = tmp_path / "cells.h5ad", gv.load(room / "run")
    shutil.copy(room / "cells.h5ad", path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genevae.io.write.into.sync", full)
    with pytest.raises(RunError, match="No space left"):
        gv.embed(model, path, into=path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["cells.h5ad"]


def test_an_error_while_writing_leaves_gradients_on(tiny_model, adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    gv.embed(tiny_model, adata, into=tmp_path / "cells.h5ad")
    with pytest.raises(RunError, match="already") as kept:  # with all that its frames hold, as in a notebook
        gv.embed(tiny_model, adata, into=tmp_path / "cells.h5ad")
    assert torch.is_grad_enabled(), kept
