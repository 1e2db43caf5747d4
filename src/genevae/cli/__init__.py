"""The command line: one file per command, loaded when it is called."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, TextIO

from cyclopts import (
    App,
    CycloptsError,
    CycloptsPanel,
    Parameter,
    UnknownOptionError,
    UnusedCliTokensError,
    default_name_transform,
)  # fmt: skip

from genevae.cli.options import from_config, require_integers
from genevae.cli.spelling import respelled, with_our_options
from genevae.errors import GenevaeError, GenevaeWarning, TrainingPaused
from genevae.peers import peer_option
from genevae.runs.signals import ends_cleanly
from genevae.training.launch_env import launched

__all__ = ["app", "main"]

COMMANDS = {
    "fit": ("fit", "Train a model, and save it to a folder."),
    "embed": ("embed", "Embed cells: the mean and standard deviation of the latent."),
    "generate": ("generate", "Generate cells of some conditions."),
    "counterfactual": ("counterfactual", "Predict what cells would look like in another condition."),
    "denoise": ("denoise", "Denoise cells: the expected expression of each."),
    "classify": ("classify", "Classify cells by a field that the model is conditioned on."),
    "map": ("map", "Map new cells to a trained model: new batches are learned, all else stays."),
    "cluster": ("cluster", "Cluster cells in the latent, with the stability of each cluster."),
    "dose-response": ("dose_response", "Compute the dose-response curve of each gene, with its EC50."),
    "effect": ("effect", "Estimate the effect of each perturbation on each gene, in each context."),
    "de": ("de", "Find the genes that differ between groups of cells, with the expected share of false ones."),
    "evaluate": ("evaluate", "Evaluate trained models on data, every score beside its baselines."),
    "explore": (
        "explore",
        "Write a page that runs a model in the browser: choose cells, set conditions, see what changes.",
    ),
    "export": ("export", "Write encoder and decoder as ONNX or torch programs, which run without genevae."),
    "share": ("share", "Write a folder of a model for others: without cells, paths or host, and with a model card."),
    "sweep": ("sweep", "Fit with several values of a setting, and compare the fits on held-out cells."),
    "tune": ("tune", "Search for good settings of a recipe; a search that was killed continues."),
    "latent": ("latent", "Draw maps of the latent, and score how well fields separate in it."),
    "plot": ("plot", "Draw a picture of a run: latent, training, effect, dose, calibration or contributions."),
    "influence": ("influence", "Measure how much every field and category adds to expression."),
    "contributions": ("influence", "List the genes that every category adds most to."),
    "gene-embeddings": ("gene_embeddings", "Embed genes: the decoder's vector of each, and the most similar genes."),
    "loadings": ("programs", "List the loading of every gene on every dimension of a linear model."),
    "program-scores": ("programs", "Score the gene programs of cells, and compare groups in them."),
    "inspect": ("inspect", "Describe a file, and suggest a recipe."),
    "show": ("show", "Describe a trained model: recipe, data, training, settings and layers."),
    "recipes": ("recipes", "List the recipes."),
    "data": ("data", "Describe data, convert them, and compute on them, of any size."),
    "slurm": ("slurm", "Write another command as a job for SLURM."),
    "demo": ("demo", "Run every task on a small real data set."),
}
"""For each command, its file in this folder, and one line of help."""
RENAMED = {"discover": "cluster", "genes": "gene-embeddings"}
"""Names of earlier versions, which work for one version more."""
USAGE = {
    "fit": "--out PATH [OPTIONS] DATA",
    "generate": "--out PATH [OPTIONS] RUN [N]",
    "evaluate": "[OPTIONS] RUN... DATA",
    "explore": "--out PATH [OPTIONS] RUN [DATA]",
    "plot": "--out PATH [OPTIONS] RUN KIND [DATA]",
    "recipes": "[NAME]",
    "slurm": "[OPTIONS] COMMAND...",
}
"""What a command is called with, where arguments may be left out, which cyclopts calls ARGS."""


def option_name(name: str) -> str:
    """Return the option of a parameter; the path of data is ``--data``."""
    return "data" if name == "path" else default_name_transform(name)


app = App(
    name="genevae",
    help="Generative models of gene expression: train one, embed cells, generate cells, answer what-if questions.",
    help_epilogue="Every command takes --quiet (no progress) and --verbose, and has its own --help.",
    version=lambda: version("genevae"),
    default_parameter=Parameter(negative=(), name_transform=option_name),
    config=(from_config, require_integers),
)
for command, (file, line) in COMMANDS.items():
    member = {"data": "app", "map": "map_query"}.get(command, command.replace("-", "_"))
    usage = {"usage": f"Usage: genevae {command} {USAGE[command]}"} if command in USAGE else {}
    app.command(f"genevae.cli.{file}:{member}", name=command, help=line, **usage)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a user's mistake ends with exit code 2 and one paragraph, a pause in training with 75."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in RENAMED:
        print(f"genevae: the command {given[0]} is now {RENAMED[given[0]]}.", file=sys.stderr)  # noqa: T201 - a command prints
        given[0] = RENAMED[given[0]]
    given = respelled(_with_verbosity(given), COMMANDS)
    warnings.showwarning = _show_warning
    with ends_cleanly(given):
        try:
            _call(given)
        except CycloptsError as error:
            _explain(error)
            sys.exit(2)
        except GenevaeError as error:
            _print(error)
            sys.exit(error.exit_code)
        except BrokenPipeError:  # the reader of the output has ended, as head does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + 13)
        except (OSError, MemoryError, UnicodeEncodeError) as error:
            _print(_of_the_system(error))
            sys.exit(2)


def _call(given: Sequence[str]) -> None:
    """Run a command; options of other packages are read as ours, if the command has them."""
    how: dict[str, Any] = {"exit_on_error": False, "print_error": False, "result_action": "return_value"}
    try:
        app(given, **how)
    except UnknownOptionError as error:
        known = {name for argument in error.argument_collection for name in argument.names}
        ours = with_our_options(given, known)
        if ours is None:
            raise
        app(ours, **how)


def _with_verbosity(given: list[str]) -> list[str]:
    """Take --quiet and --verbose out of a command line, and keep to them."""
    from genevae.session import settings

    end = given.index("--") if "--" in given else len(given)
    if given[:1] == ["slurm"]:
        return given
    if "--quiet" in given[:end]:
        settings.progress = False
    if "--verbose" in given[:end]:
        settings.verbosity = "debug"
    return [word for at, word in enumerate(given) if at >= end or word not in {"--quiet", "--verbose"}]


def _explain(error: CycloptsError) -> None:
    """Print what is wrong with the options; those of other packages are answered with ours."""
    from rich.console import Console

    unknown = isinstance(error, UnknownOptionError) and error.token.keyword
    answer = peer_option(unknown.split("=")[0]) if unknown else None
    if answer is not None:
        _print(answer)
    elif isinstance(error, UnusedCliTokensError):
        _print(GenevaeError(_of_too_many(error.unused_tokens or [])))
    else:
        Console(stderr=True).print(CycloptsPanel(error))


def _of_too_many(tokens: Sequence[str]) -> str:
    """Explain arguments that no parameter takes."""
    return (
        f"Too many arguments: {' '.join(tokens)}. An option takes one value, as --split-by does. --condition, "
        "--continuous, --combine, --context, --by and --to take several, as in --condition a b or --condition a,b."
    )


def _of_the_system(error: OSError | MemoryError | UnicodeEncodeError) -> GenevaeError:
    """Return an error of the system, or of Python, as a message."""
    if isinstance(error, MemoryError):
        return GenevaeError(f"There is not enough memory ({error}). Use fewer cells or genes, or a larger machine.")
    if isinstance(error, UnicodeEncodeError):
        return GenevaeError(f"The text {error.object[:80]!r} cannot be written as UTF-8. Rename it.")
    place = f"{error.filename}: " if error.filename else ""
    return GenevaeError(f"{place}{error.strerror or error}. Check that this file or folder exists and may be used.")


def _print(error: GenevaeError) -> None:
    """Print a message; of several processes the first prints those of all, and the others only their own."""
    launch = launched(os.environ)
    who = "genevae"
    if not launch.is_first:
        who = f"genevae (process {launch.rank} of {launch.n_ranks})"
        if isinstance(error, TrainingPaused):
            return
        time.sleep(1)  # if the first fails too, its message is printed by now, and torchrun ends the others
    print(f"{who}: {error}", file=sys.stderr)  # noqa: T201 - a command prints


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of this package as one line, and others as Python does."""
    ours = issubclass(category, GenevaeWarning)
    text = f"genevae: {message}\n" if ours else warnings.formatwarning(message, category, filename, lineno, line)
    (file or sys.stderr).write(text)
