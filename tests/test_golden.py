"""The same seed gives the same bits as when `golden.json` was written: refactoring must not change one of them.

``python -m tests.test_golden`` writes the file anew, after a change that is meant to change results.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse

import genevae as gv

FILE = Path(__file__).with_name("golden.json")
GOLDEN: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
FIELDS: dict[str, dict[str, Any]] = {
    "contrastive": {"condition": ["type", "drug"], "group": "lane"},
    "adversarial": {"condition": ["type", "drug"], "batch": "lane"},
    "programs": {"condition": ["type", "drug"], "gene_sets": {"one": ["G0", "G1", "G2", "G3", "G4"]}},
    "semi": {"condition": ["type", "drug"], "batch": "lane"},
    "dose": {"condition": ["drug"], "continuous": ["dose"], "batch": "lane"},
    "cycle": {"condition": ["type", "drug"]},
}
"""What the recipes are conditioned on; the others on two categories, a number and a batch."""
USUAL = {"condition": ["type", "drug"], "continuous": ["dose"], "batch": "lane", "control": {"drug": "ctrl"}}
EVALUATED = ("nb", "gaussian")


def machine() -> dict[str, str]:
    """Return what the bits of a matrix product depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "torch": torch.__version__.split("+")[0],
        "processor": f"{model}, {torch.backends.cpu.get_cpu_capability()}",
        "numpy": np.__version__,
        "numba": version("numba"),
    }


@pytest.fixture(autouse=True)
def same_machine() -> None:
    found, expected = machine(), GOLDEN["machine"]
    if found != expected:
        pytest.skip(f"golden.json was written with {expected}; here is {found}")


@pytest.fixture(scope="module")
def fitted(make_adata: Callable[..., AnnData]) -> Callable[[str], gv.Trained]:
    models: dict[str, gv.Trained] = {}

    def fit(recipe: str) -> gv.Trained:
        if recipe not in models:
            models[recipe] = two_epochs(make_adata(120), recipe)
        return models[recipe]

    return fit


def two_epochs(adata: AnnData, recipe: str) -> gv.Trained:
    torch.set_num_threads(1)
    fields = FIELDS.get(recipe, USUAL)
    return gv.fit(adata, recipe=recipe, **fields, epochs=2, batch_size=32, seed=0, progress=False, device="cpu")


def digest_of_weights(model: gv.Trained) -> str:
    tensors = sorted(t.contiguous().numpy().tobytes() for t in model.module.state_dict().values())
    return hashlib.sha256(b"".join(tensors)).hexdigest()


def digests_of_tasks(model: gv.Trained, adata: AnnData) -> dict[str, str]:
    results = {
        "embed": gv.embed(model, adata).obsm["X_genevae"],
        "generate": gv.generate(model, n=20).X,
        "counterfactual": gv.counterfactual(model, adata, condition={"drug": "stim"}, n_draws=3).X,
        "denoise": gv.denoise(model, adata, n_draws=3).X,
    }
    if "type" in model.calibration:
        results["classify"] = (
            gv.classify(model, adata, field="type").drop(columns=["label", "true", "set"]).to_numpy(np.float64)
        )
    return {name: digest(result) for name, result in results.items()}


def digest(x: Any) -> str:
    dense = x.toarray() if sparse.issparse(x) else np.asarray(x)
    return hashlib.sha256(np.ascontiguousarray(dense, np.float64).tobytes()).hexdigest()


def scores(model: gv.Trained, adata: AnnData) -> list[list[Any]]:
    """Return the scores of a report, each with a label."""
    table = gv.evaluate({"run": model}, adata, cells=120, progress=False).scores
    labels = table[["section", "metric", "of", "who"]].astype(str).agg(" | ".join, axis=1)
    return [[label, None if np.isnan(value) else value] for label, value in zip(labels, table["value"], strict=True)]


@pytest.mark.parametrize("recipe", gv.RECIPES)
def test_weights_after_two_epochs(recipe, fitted):
    assert digest_of_weights(fitted(recipe)) == GOLDEN["weights"][recipe]


@pytest.mark.parametrize("recipe", gv.RECIPES)
def test_tasks(recipe, fitted, make_adata):
    assert digests_of_tasks(fitted(recipe), make_adata(120)) == GOLDEN["tasks"][recipe]


@pytest.mark.parametrize("recipe", EVALUATED)
def test_scores(recipe, fitted, make_adata):
    found, expected = scores(fitted(recipe), make_adata(120)), GOLDEN["scores"][recipe]
    for (label, value), (_, wanted) in zip(found, expected, strict=True):
        assert value == pytest.approx(wanted, rel=1e-12, abs=1e-12), label


def main() -> None:
    """Write the file anew."""
    from tests.conftest import make_adata

    make = make_adata._fixture_function()
    models = {name: two_epochs(make(120), name) for name in gv.RECIPES}
    golden = {
        "machine": machine(),
        "weights": {name: digest_of_weights(model) for name, model in models.items()},
        "tasks": {name: digests_of_tasks(model, make(120)) for name, model in models.items()},
        "scores": {name: scores(models[name], make(120)) for name in EVALUATED},
    }
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
