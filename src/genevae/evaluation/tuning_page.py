"""The page of a search for settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from genevae.plotting.tuning import tuning_picture
from genevae.report.gallery import Gallery, Link, Picture, gallery_page

if TYPE_CHECKING:
    from genevae.evaluation.tune import Tuning

__all__ = ["write_page"]

PICTURE, MOST_ROWS = "tuning.png", 50


def write_page(result: Tuning, recipe: str, metric: str, files: Mapping[str, str]) -> None:
    """Write what was found, the trials, and a picture of what mattered.

    Parameters
    ----------
    result
        Of the search; the page is written into its folder.
    recipe, metric
        What was tuned, and by which metric.
    files
        Names of files in the folder and what they are: the first is the page, and the others are linked from it.
    """
    page, *others = files
    pictures = []
    if result.table["value"].notna().any():
        tuning_picture(result.table, result.importance, metric, result.folder / PICTURE)
        about = f"{metric} on held-out cells, higher is better, over the trials, and over what mattered most."
        pictures = [Picture(PICTURE, "What mattered", about, broad=True)]
    ranked = result.table.sort_values("value", ascending=False, kind="stable").head(MOST_ROWS)
    settings = [name for name in ranked if name not in ("trial", "value", "state")]
    gallery = Gallery(
        title=f"Tuning of {recipe}",
        lead=" ".join(str(result).splitlines()),
        links=[Link(name, name, f"{files[name]}.") for name in others],
        columns=["Trial", metric, *settings, "state"],
        rows=[
            [f"trial {row['trial']}", *(_text(row[name]) for name in ("value", *settings, "state"))]
            for row in ranked.to_dict("records")
        ],
        pictures=pictures,
        heading="Trials, the best first",
    )
    (result.folder / page).write_text(gallery_page(gallery), encoding="utf-8")


def _text(value: Any) -> str:
    return "–" if pd.isna(value) else f"{value:.5g}" if isinstance(value, float) else str(value)
