"""`genevae fit`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich import print as say

import genevae as gv
from genevae.cli import reading
from genevae.cli.reading import files_of, parameters
from genevae.cli.words import options_of, with_signature
from genevae.disk import require_free
from genevae.errors import RecipeError, nearest
from genevae.recipes.config import read_config
from genevae.recipes.trained import Trained
from genevae.training.folder import MANIFEST

__all__ = ["fit"]

OPTIONS = options_of(gv.fit, {}, leave_out=["progress", "layer"])
KNOWN = {**OPTIONS, **reading.OPTIONS}


def _fit(data: str | None = None, *, out: Path, force: bool = False, config: Path | None = None, **given: Any) -> None:
    require_free(out, force, [MANIFEST])
    settings = {**_read(config), **{name: KNOWN[name][1](value) for name, value in given.items()}}
    path = settings.pop("data", None)
    if data is None and path is None:
        raise RecipeError('Say what to train on: genevae fit DATA --out RUN, or a config file with data = "…".')
    model = gv.fit(files_of(data or path, settings), **settings)
    gv.save(model, out, overwrite=force)
    say(_summary(model, out))


def _read(config: Path | None) -> dict[str, Any]:
    settings = read_config(config) if config else {}
    for name in settings:
        if name not in KNOWN and name != "data":
            raise RecipeError(f"The config file {config} sets '{name}'. {nearest(name, KNOWN)}")
    return settings


def _summary(model: Trained, out: Path) -> str:
    best = model.history.iloc[model.facts["best_epoch"] - 1]
    parts = model.split.value_counts()
    cells = ", ".join(f"{parts[part]:,} {part}" for part in ("training", "validation", "test") if part in parts)
    return (
        f"Data     {model.facts['data']}: {model.schema.kind}, {len(model.schema.genes):,} genes; {cells} cells\n"
        f"Seen as  {model.schema.seen_as} values; conditions: {', '.join(model.schema.fields) or 'none'}\n"
        f"Trained  {len(model.history)} epochs: {model.facts['ended']}\n"
        f"Best     epoch {model.facts['best_epoch']}: validation loss {best['validation_loss']:.4g} per cell\n"
        f"Saved    {out}"
    )


def _parameters() -> list[inspect.Parameter]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("data", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str | None, default=None),
        inspect.Parameter("out", keyword, annotation=Annotated[Path, Parameter(help="The folder to write.")]),
        inspect.Parameter(
            "force", keyword, annotation=Annotated[bool, Parameter(help="Replace what is there.")], default=False
        ),
        inspect.Parameter(
            "config",
            keyword,
            annotation=Annotated[
                Path | None, Parameter(help="A TOML file of these options; a run folder keeps its own. Options win.")
            ],
            default=None,
        ),
        *(parameter for parameter, _ in OPTIONS.values()),
        *parameters(),
    ]


fit = with_signature(_fit, gv.fit, _parameters())
