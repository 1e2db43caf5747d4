"""How many guesses of users of scanpy and scvi-tools work: ``python -m benchmarks.guesses [SCRIPT …]``.

The guesses were written by somebody who had not read our documents. A guess *works* if it ends without an error and its
result is what the name promises. It is *answered* if it ends in an error of ours that names something that exists and
that the guess did not name. Mistakes are counted apart: guesses whose right answer is an error, because they name what
is not there (a misspelt column, value, layer, file, option or command), or give data that no model can take in this way
(no gene in common, logarithms as counts, cells without a batch).

It needs ``GENEVAE_DATA``, with ``kang_merged.h5ad`` and ``bulk_airway_inmoose.h5ad``.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter

from benchmarks.guesses.runner import outcomes, small

import genevae as gv

TWO = {"condition": ["condition", "cell_type"]}
MODELS = {
    "basics": {"condition": "condition"},
    "integration": {"batch": "donor", "labels": "cell_type"},
    "perturbation": TWO,
    "generation_bulk": TWO,
    "command_line": {"condition": "condition"},
}
"""The scripts, and the fields of the model that the guesses of each are given."""
KINDS = ("works", "answered", "neither")


def main(chosen: list[str]) -> None:
    """Print the guesses that do not work, and the table."""
    gv.settings.progress = False
    adata, counts = small(), {}
    for script, fields in MODELS.items():
        if chosen and script not in chosen:
            continue
        importlib.import_module(f"benchmarks.guesses.{script}")
        model = gv.fit(adata, epochs=2, **fields)
        counts[script] = Counter()
        for name, is_mistake, found, message in outcomes(script, model, adata):
            counts[script][is_mistake, found] += 1
            if found != "works":
                print(f"{script}.{name}{' (a mistake)' if is_mistake else ''}: {found}. {message[:300]}", flush=True)
    print("\n| guesses | works | answered | neither | share that works | mistakes: answered | neither |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for script, each in {**counts, "all": sum(counts.values(), Counter())}.items():
        works, answered, neither = (each[False, kind] for kind in KINDS)
        right = each[True, "works"] + each[True, "answered"]  # one that checks the error itself works
        share = works / max(works + answered + neither, 1)
        print(f"| {script} | {works} | {answered} | {neither} | {share:.1%} | {right} | {each[True, 'neither']} |")


if __name__ == "__main__":
    main(sys.argv[1:])
