"""The verbs as commands."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from cyclopts import App, CycloptsError, Parameter

import genevae as gv
from genevae.cli.data import app as data_app
from genevae.cli.demo import demo
from genevae.cli.effect import effect
from genevae.cli.evaluate import evaluate
from genevae.cli.fit import fit
from genevae.cli.inspect import inspect, recipes
from genevae.cli.latent import latent
from genevae.cli.slurm import slurm
from genevae.cli.task import task_command
from genevae.errors import GenevaeError, TrainingPaused
from genevae.training.launch_env import launched

__all__ = ["app", "main"]

app = App(
    name="genevae",
    help="Generative models of gene expression: train one, embed cells, generate cells, ask what if.",
    version=lambda: version("genevae"),
    default_parameter=Parameter(negative=()),
)

COMMANDS: tuple[Callable[..., Any], ...] = (
    fit,
    task_command(gv.embed),
    task_command(gv.generate),
    task_command(gv.counterfactual),
    task_command(gv.denoise),
    task_command(gv.classify),
    task_command(gv.cluster),
    task_command(gv.dose_response),
    effect,
    evaluate,
    latent,
    task_command(gv.influence),
    task_command(gv.contributions),
    task_command(gv.gene_embeddings),
    inspect,
    recipes,
    slurm,
    demo,
)

for command in COMMANDS:
    app.command(command)
app.command(data_app)


RENAMED = {"discover": "cluster", "genes": "gene-embeddings"}
"""Deprecated commands, for one version."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a user's mistake ends with exit code 2 and one paragraph, a pause in training with 75."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and (new := RENAMED.get(arguments[0])):
        print(f"genevae: the command {arguments[0]} is now {new}.", file=sys.stderr)  # noqa: T201 - a command speaks
        arguments[0] = new
    try:
        app(arguments, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        sys.exit(2)
    except GenevaeError as error:
        _say(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(error: GenevaeError) -> None:
    """Print a message; of several processes the first speaks for all, and others only of what it may not know."""
    launch = launched(os.environ)
    who = "genevae"
    if not launch.is_first:
        who = f"genevae (process {launch.rank} of {launch.n_ranks})"
        if isinstance(error, TrainingPaused):
            return
        time.sleep(1)  # where the first fails alike, it has said so by now, and torchrun ends the others
    print(f"{who}: {error}", file=sys.stderr)  # noqa: T201 - a command speaks
