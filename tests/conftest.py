"""What the tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import settings
from scipy import sparse
from torch import Tensor

from genevae.cells import Cells, Condition, ExpressionRows

torch.set_num_threads(1)  # the models here are tiny, and threads that wait for each other only slow a busy machine
os.environ.setdefault("GENEVAE_TRUST_FILES", "1")  # one process less for every file; tests of damage take this back
os.environ.setdefault("TRITON_INTERPRET", "1")  # where there is no GPU
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    root = Path(os.environ.get("GENEVAE_DATA", Path(__file__).parents[1].parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"{name} is not in {root}: set GENEVAE_DATA to the folder of real data sets")
        return path

    return find


@pytest.fixture(scope="session")
def as_csr() -> Callable[[Tensor], ExpressionRows]:
    """Store the non-zero entries of a dense matrix."""

    def store(x_ng: Tensor) -> ExpressionRows:
        x = sparse.csr_matrix(x_ng.numpy())
        return ExpressionRows(
            torch.from_numpy(x.data),
            x_ng.shape[1],
            torch.from_numpy(x.indptr.astype(np.int64)),
            torch.from_numpy(x.indices.astype(np.int64)),
        )

    return store


@pytest.fixture(scope="session")
def make_cells(as_csr: Callable[[Tensor], ExpressionRows]) -> Callable[..., Cells]:
    """Random cells: counts (or normal values), a field ``type`` of 3, a field ``lane`` of 2, and a ``dose``."""

    def make(n: int = 12, g: int = 7, *, counts: bool = True, stored: bool = True, seed: int = 0) -> Cells:
        generator = torch.Generator().manual_seed(seed)
        rate = 4 * torch.rand(n, g, generator=generator)
        x = torch.poisson(rate, generator=generator) if counts else torch.randn(n, g, generator=generator)
        condition = Condition(
            x.abs().sum(-1, keepdim=True).clamp(min=1),
            {
                "type": torch.randint(3, (n,), generator=generator),
                "lane": torch.randint(2, (n,), generator=generator),
            },
            {"dose": torch.randn(n, generator=generator)},
        )
        return Cells(as_csr(x) if stored else ExpressionRows.from_dense(x), condition, torch.arange(n))

    return make


@pytest.fixture(scope="session")
def make_adata() -> Callable[..., AnnData]:
    """Counts of 30 genes with structure: types A, B, C with five marker genes each, a drug that raises five others.

    No cell of type C was given the drug.
    """

    def make(n: int = 240, seed: int = 0) -> AnnData:
        rng = np.random.default_rng(seed)
        kind = rng.choice(list("ABC"), n)
        drug = np.where(kind == "C", "ctrl", rng.choice(["ctrl", "stim"], n))
        lane = rng.choice(["l1", "l2"], n)
        rate = np.full((n, 30), 1.0)
        for number, name in enumerate("ABC"):
            rate[kind == name, 5 * number : 5 * number + 5] *= 8
        rate[drug == "stim", 20:25] *= 8
        rate[lane == "l2", 25:] *= 3
        rate *= rng.lognormal(0, 0.3, (n, 1))
        dose = np.abs(rng.normal(2, 1, n))
        obs = pd.DataFrame(
            {"type": pd.Categorical(kind), "drug": pd.Categorical(drug), "lane": lane, "dose": dose},
            index=[f"cell{i}" for i in range(n)],
        )
        adata = AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)), obs=obs)
        adata.var_names = [f"G{i}" for i in range(30)]
        return adata

    return make


@pytest.fixture
def adata(make_adata: Callable[..., AnnData]) -> AnnData:
    """Forty cells, a new object for every test."""
    return make_adata(40, seed=1)


@pytest.fixture(scope="session")
def tiny_model(make_adata: Callable[..., AnnData]):
    """A model of 240 cells, trained for 30 epochs; borrow it, and give it back as it was."""
    from genevae.runs.fit import fit

    return fit(
        make_adata(),
        recipe="nb",
        condition=["type", "drug"],
        batch="lane",
        control={"drug": "ctrl"},
        epochs=30,
        batch_size=32,
        n_latent=4,
        hidden=[32],
        learning_rate=5e-3,
        progress=False,
        device="cpu",
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; tests that look at pages are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    arguments = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--no-first-run",
    ]  # fmt: skip
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; whatever the browser complains of, or asks a network for, fails the test at its end."""
    said: list[str] = []
    pages = []

    def opened(path: Path, width: int = 1280, **given: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, **given)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda request: said.extend([] if request.url.startswith(("file:", "data:")) else [request.url])
        )
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=20_000)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert said == []
