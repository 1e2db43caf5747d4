"""`genevae fit`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich import print as say

import genevae as gv
from genevae.cli.options import READING, files_of, options_of, parameters, with_signature
from genevae.cli.tensorboard import show, tensorboard_logs
from genevae.errors import RecipeError, nearest, shorten
from genevae.runs.config_file import read_config
from genevae.runs.manifest import START
from genevae.runs.trained import Trained
from genevae.training.launch_env import launched

__all__ = ["fit"]

OPTIONS = options_of(gv.fit, {}, leave_out=["progress", "layer", "out", "overwrite", "callbacks"])
KNOWN = {**OPTIONS, **READING}
LOG = "tensorboard: curves, the latent and pictures, in RUN-tensorboard beside the run."


def _fit(
    data: str | None = None,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    force: bool = False,
    config: Path | None = None,
    log: Sequence[str] = (),
    **given: Any,
) -> None:
    if resume is not None:
        _go_on(resume, {"DATA": data, "out": out, "config": config, "force": force or None, **given}, log)
        return
    if out is not None and _was_begun(out):
        _go_on(out, {"device": given.get("device")}, log)
        return
    if out is None:
        raise RecipeError("Say where the model is to go: genevae fit DATA --out RUN.")
    settings = {**_read(config), **{name: KNOWN[name][1](value) for name, value in given.items()}}
    path = settings.pop("data", None)
    if data is None and path is None:
        raise RecipeError('Say what to train on: genevae fit DATA --out RUN, or a config file with data = "…".')
    with tensorboard_logs(log, out) as logs:
        model = gv.fit(files_of(data or path, settings), **settings, out=out, overwrite=force, callbacks=logs)
        show(logs, model)
    _report(model, out)


def _was_begun(out: Path) -> bool:
    """Say whether the queue, or torchrun, has started this very job again, after it had begun to train."""
    return launched(os.environ).restarts > 0 and (out / START).is_file()


def _go_on(run: Path, given: dict[str, Any], log: Sequence[str]) -> None:
    """Resume; the run knows all that it was told at first."""
    device = given.pop("device", None)
    if told := [name for name, value in given.items() if value is not None]:
        raise RecipeError(f"A run goes on as it began: leave out {shorten(told)}. Only the device may be another.")
    with tensorboard_logs(log, run) as logs:
        model = gv.resume(run, device=None if device == "auto" else device, callbacks=logs)
        show(logs, model)
    _report(model, run)


def _read(config: Path | None) -> dict[str, Any]:
    settings = read_config(config) if config else {}
    for name in settings:
        if name not in KNOWN and name != "data":
            raise RecipeError(f"The config file {config} sets '{name}'. {nearest(name, KNOWN)}")
    return settings


def _report(model: Trained, out: Path) -> None:
    if launched(os.environ).is_first:
        say(_summary(model, out))


def _summary(model: Trained, out: Path) -> str:
    best = model.history.iloc[model.facts["best_epoch"] - 1]
    parts = model.split.value_counts()
    cells = ", ".join(f"{parts[part]:,} {part}" for part in ("training", "validation", "test") if part in parts)
    return (
        f"Data     {model.facts['data']}: {model.schema.kind}, {len(model.schema.genes):,} genes; {cells} cells\n"
        f"Seen as  {model.schema.input_kind} values; conditions: {', '.join(model.schema.fields) or 'none'}\n"
        f"Trained  {len(model.history)} epochs: {model.facts['ended']}\n"
        f"Best     epoch {model.facts['best_epoch']}: validation loss {best['validation_loss']:.4g} per cell\n"
        f"Saved    {out}"
    )


def _parameters() -> list[inspect.Parameter]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("data", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str | None, default=None),
        _path("out", "The folder to write."),
        _path("resume", "The folder of a fit with checkpoints that was interrupted: go on with it, as it began."),
        inspect.Parameter(
            "force", keyword, annotation=Annotated[bool, Parameter(help="Replace what is there.")], default=False
        ),
        _path("config", "A TOML file of these options; a run folder keeps its own. Options win."),
        inspect.Parameter("log", keyword, annotation=Annotated[list[str], Parameter(help=LOG)], default=[]),
        *(parameter for parameter, _ in OPTIONS.values()),
        *parameters(),
    ]


def _path(name: str, words: str) -> inspect.Parameter:
    shown = Annotated[Path | None, Parameter(help=words)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=shown, default=None)


fit = with_signature(_fit, gv.fit, _parameters())
