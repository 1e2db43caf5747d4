"""Chunks of any names, as the command line meets them."""

from __future__ import annotations

from pathlib import Path

from scipy import sparse

from genevae.cli import main


def test_fit_and_embed_read_chunks_by_patterns(make_adata, tmp_path: Path) -> None:
    adata, folder = make_adata(40), tmp_path / "chunks"
    folder.mkdir()
    for number, part in enumerate((slice(0, 25), slice(25, 40))):
        sparse.save_npz(folder / f"human-{number}.npz", adata.X[part])
        adata.obs.iloc[part].to_pickle(folder / f"human-{number}.pkl")
        sparse.save_npz(folder / f"mouse-{number}.npz", adata.X[part][:, :5])
        adata.obs.iloc[part].to_pickle(folder / f"mouse-{number}.pkl")
    patterns = ["--counts-glob", "human-*.npz", "--metadata-glob", "human-*.pkl"]
    run = tmp_path / "run"
    main(["fit", str(folder), *patterns, "--condition", "drug", "--epochs", "1", "--out", str(run)])
    main(["embed", str(run), str(folder), *patterns, "--out", str(tmp_path / "z.npy")])
    assert 'counts_glob = "human-*.npz"' in (run / "config.toml").read_text()
