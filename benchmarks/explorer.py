"""The explorer of three models: its numbers beside Python's, its speed, its size, and how long it takes to make.

    python benchmarks/explorer.py DATA_FOLDER [--quick]

For each model: the largest relative difference of the page's decoder from Python's over 100 random latents and every
condition; cells decoded in a second in headless Chromium; the size of the page; seconds from `fit` to the page.
All three predict values of zero and above, so that differences are relative to the value itself.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

import genevae as gv

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Kang, condition × type": (
        "kang_merged.h5ad",
        {"condition": ["condition", "cell_type"], "control": {"condition": "ctrl"}, "genes": 2000},
    ),
    "BPAF, dose": (
        "dose_bpaf_mcf7_bulk.h5ad",
        {"recipe": "dose", "condition": "compound", "control": {"compound": "control"}, "continuous": "dose"},
    ),
    "Kang, cycle": (
        "kang_merged.h5ad",
        {"recipe": "cycle", "condition": ["condition", "cell_type"], "control": {"condition": "ctrl"}, "genes": 2000},
    ),
}
N_LATENTS = 100


def random_latents(model: gv.Trained, n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return latents spread as those of training cells; those of an additive model are not negative."""
    z_nk = model.reference.mean_nk.numpy()
    drawn = np.random.default_rng(seed).normal(z_nk.mean(0), z_nk.std(0) + 1e-3, (n, z_nk.shape[1]))
    return (np.abs(drawn) if (z_nk >= 0).all() else drawn).astype(np.float32)


def conditions(model: gv.Trained) -> list[dict[str, Any]]:
    """Return every combination of categories, with the ends and the middle of every number."""
    choices: dict[str, list[Any]] = {c.name: list(c.categories) for c in model.schema.categorical}
    choices |= {c.name: [c.minimum, (c.minimum + c.maximum) / 2, c.maximum] for c in model.schema.continuous}
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


DECODE = """([z, given]) => {
  const numbers = Float32Array.from(z.flatMap((one) => [...genevae.decode(one, given)]));
  let text = "";
  for (const byte of new Uint8Array(numbers.buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}"""


def largest_difference(page: Any, model: gv.Trained) -> float:
    """Return the largest relative difference of the page's decoder from Python's."""
    z_nk, worst = random_latents(model, N_LATENTS), 0.0
    for given in conditions(model):
        python_ng = gv.decode(model, z_nk, given).to_numpy()
        page_ng = np.frombuffer(base64.b64decode(page.evaluate(DECODE, [z_nk.tolist(), given])), dtype="<f4")
        least_ng = np.maximum(np.abs(python_ng), 1e-6 * np.sqrt(np.square(python_ng).mean(0)))
        worst = max(worst, float((np.abs(page_ng.reshape(python_ng.shape) - python_ng) / least_ng).max()))
    return worst


def cells_per_second(page: Any, model: gv.Trained) -> float:
    """Return how many cells the page decodes in a second, with all their genes: the best of five."""
    timed = """([z, given]) => {
      const start = performance.now();
      for (let i = 0; i < 5; i++) for (const one of z) genevae.decode(one, given);
      return 5 * z.length / (performance.now() - start) * 1000;
    }"""
    page.evaluate(timed, [random_latents(model, 10).tolist(), conditions(model)[0]])  # compiles it
    given = [random_latents(model, N_LATENTS).tolist(), conditions(model)[0]]
    return max(float(page.evaluate(timed, given)) for _ in range(5))


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description="The explorer beside Python.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true", help="train for two epochs: times are then not those of a fit")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs to use instead of training, in order")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    print("| model | largest difference | cells/s | MB | explorer, s | fit to explorer, s |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        for number, (title, (file, options)) in enumerate(MODELS.items()):
            out, start = Path(folder) / f"{number}.html", time.perf_counter()
            short = {"epochs": 2, "folds": 0} if given.quick else {}
            known = number < len(given.runs)
            model = gv.load(given.runs[number]) if known else gv.fit(given.data / file, **options, **short)
            fitted = time.perf_counter()
            gv.explore(model, given.data / file, out=out)
            made = time.perf_counter()
            page = browser.new_page()
            page.goto(out.as_uri())
            page.wait_for_selector("html[data-drawn]")
            whole = "–" if known else f"{made - start:.0f}"
            print(
                f"| {title} | {largest_difference(page, model):.1e} | {cells_per_second(page, model):,.0f} "
                f"| {out.stat().st_size / 1e6:.2f} | {made - fitted:.0f} | {whole} |",
                flush=True,
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
