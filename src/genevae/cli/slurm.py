"""`genevae slurm`: another command of genevae as a job for SLURM."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from genevae.cli.options import assignments, say
from genevae.cli.sbatch import Job, sbatch_script
from genevae.errors import RecipeError, RunError, nearest
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.overwrite import require_free

__all__ = ["slurm"]

EVERY = "15m"
"""The default interval of checkpoints of a fit."""
MANY = 100
"""All commands, in a message."""


def slurm(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    partition: str | None = None,
    time: str | None = None,
    gpus: int = 0,
    memory: str | None = None,
    cpus: int = 4,
    nodes: int = 1,
    each: Sequence[str] = (),
    directive: Sequence[str] = (),
    setup: Sequence[str] = (),
    script: Path | None = None,
    replace: bool = False,
    dry_run: bool = False,
    submit: bool = False,
) -> None:
    """Write another command as a job for SLURM: genevae slurm fit DATA --out RUN --partition gpu --time 4:00:00.

    A fit saves its state (--checkpoint-every 15m, unless given) also when its time is over or it is preempted; the job
    then queues again, and continues.

    Parameters
    ----------
    command
        Any other command, such as fit, embed or data hvg, with its options; the word data may be left out.
    partition
        The queue.
    time
        How long it may run, such as 4:00:00 or 2-12 (days and hours).
    gpus
        GPUs on each node; a fit runs one process for each.
    memory
        Of each node, such as 64G.
    cpus
        Processors for each process.
    nodes
        Machines; several for fit only.
    each
        A job for every value of an option, as in --each seed=0,1,2 or --each recipe=nb,zinb; of two such, for every
        combination. The values are added to the name of --out. A sweep keeps its own --each, in one job.
    directive
        Any other option of sbatch, as in --directive account=mylab.
    setup
        A line of shell to run first, as in --setup "module load cuda" or --setup "source venv/bin/activate"; where it
        makes another genevae the first in the PATH, the job runs that one.
    script
        The file to write; genevae-COMMAND.sbatch by default.
    replace
        Replace an existing script.
    dry_run
        Show the script, and write nothing.
    submit
        Submit it to the queue.
    """
    command, each = _with_each(command, each)
    arguments, files = _checked(command, each)
    job = Job(
        name=script.stem if script else f"genevae-{command[0]}",
        program=[sys.executable, "-m", "genevae"],
        command=arguments,
        folder=Path.cwd(),
        each=_values(each),
        partition=partition, time=time, memory=memory, nodes=nodes, gpus=gpus, cpus=cpus,
        directives={name: str(value) for name, value in assignments(directive).items()},
        setup=setup,
        resumes=command[0] == "fit",
    )  # fmt: skip
    text = sbatch_script(job)
    if dry_run:
        say(text, end="")
        return
    path = script or Path(f"{job.name}.sbatch")
    _write(text, path, replace, files)
    say(f"Wrote {path}" + ("" if submit else f": submit it with sbatch {path}"))
    if submit:
        say(_submitted(path))


def _callable() -> dict[str, tuple[str, ...]]:
    """Return the commands that can run as a job, and how they are called."""
    from genevae.cli import COMMANDS
    from genevae.cli.data import app

    of_data = [name for name in app if not name.startswith("-")]
    named = {f"data {name}": ("data", name) for name in of_data} | {name: ("data", name) for name in of_data}
    return {**named, **{name: (name,) for name in COMMANDS if name not in {"data", "slurm"}}}


def _checked(command: Sequence[str], each: Sequence[str]) -> tuple[list[str], list[object]]:
    """Parse the command now, so that a mistake shows before the job starts; return its words, and its files."""
    from genevae.cli import app

    if not command:
        raise RecipeError(f"No command was given. {nearest('', _callable(), MANY)}")
    word = " ".join(command[:2]) if command[0] == "data" else command[0]
    if word not in (verbs := _callable()):
        raise RecipeError(f"'{word}' is no command that runs as a job. {nearest(word, verbs, MANY)}")
    arguments = [*verbs[word], *command[len(word.split()) :]]
    if command[0] == "fit" and not {"--checkpoint-every", "--resume"} & {word.split("=")[0] for word in arguments}:
        arguments += ["--checkpoint-every", EVERY]
    files: list[object] = []
    for values in Job(name="", command=(), folder=Path(), each=_values(each)).combinations:
        chosen = [word for name, value in values.items() for word in (f"--{name}", value)]
        _, bound, _ = app.parse_args([*arguments, *chosen], exit_on_error=False)
        files += [value for value in bound.arguments.values() if not isinstance(value, str)]
    return arguments, files


def _with_each(command: Sequence[str], each: Sequence[str]) -> tuple[tuple[str, ...], Sequence[str]]:
    """Return --each to a command that has this option itself, as a sweep has, unless it has kept its own."""
    if command[:1] != ("sweep",) or any(word.split("=")[0] == "--each" for word in command):
        return tuple(command), each
    return (*command, *(word for values in each for word in ("--each", values))), ()


def _values(each: Sequence[str]) -> dict[str, list[str]]:
    """Parse NAME=VALUE,VALUE."""
    return {name: str(values).split(",") for name, values in assignments(each).items()}


def _write(text: str, path: Path, replace: bool, reads: Sequence[object]) -> None:
    require_free(path, replace, reads)
    with staging_folder(path) as folder:
        draft = folder / path.name
        draft.write_text(text, encoding="utf-8")
        replace_with(draft, path)


def _submitted(path: Path) -> str:
    """Submit a script, and return the answer of the queue."""
    sbatch: Any = shutil.which("sbatch")
    if sbatch is None:
        raise RunError(f"There is no sbatch here: copy {path} to the cluster, and submit it there.")
    done = subprocess.run([sbatch, str(path)], capture_output=True, text=True, check=False)  # noqa: S603 - its own file
    if done.returncode:
        raise RunError(f"sbatch rejected {path}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
