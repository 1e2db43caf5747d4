"""Every example runs from its first line to its last on real data, and prints its result beside a baseline."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SHORT = {
    "embed_and_cluster": ("pbmc3k_labelled.h5ad", 2, ("X_genevae", "X_pca")),
    "integrate_batches": ("pbmc_3tech_symphony.h5ad", 2, ("adversarial", "chance", "PCA")),
    "perturbation_what_if": ("kang_merged.h5ad", 2, ("genevae", "mean shift", "no change", "ceiling")),
    "simulate": ("pbmc68k_reduced_counts.h5ad", 2, ("genevae", "genes shuffled", "real")),
    "bulk": ("bulk_gtex_tcga_rnaseqdb.h5ad", 2, ("genevae", "PCA", "commonest tissue")),
}
"""For each example its data, the epochs of a short run, and what it must print."""


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SHORT)


LONG = {"bulk", "embed_and_cluster", "integrate_batches", "simulate"}
"""Examples whose tasks other stories run too."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in SHORT]
)
def test_example_runs(name, shared_data, tmp_path):
    file, epochs, words = SHORT[name]
    environment = {**os.environ, "GENEVAE_DATA": str(shared_data(file).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--epochs", str(epochs)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in words:
        assert word in done.stdout
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind"


@pytest.mark.parametrize("name", SHORT)
def test_example_is_short(name):
    assert 25 <= len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 60
