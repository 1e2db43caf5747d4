"""A job for SLURM as a readable script."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from genevae.errors import RecipeError

__all__ = ["PAUSED", "Job", "sbatch_script"]

PAUSED = 75
"""The exit code of a fit that was stopped by a signal, and can be resumed."""
WARNING = 120
"""Seconds before the time limit at which SLURM sends a fit the signal to save its state."""
_TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")
_NAME = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command to run, and the resources that it needs.

    Parameters
    ----------
    name
        Its name in the queue.
    program, command
        How genevae is called, and the command line after it.
    folder
        Where it runs.
    each
        Values of options, by name; each combination of values is a job of an array.
    partition, time, memory
        In the notation of SLURM; its defaults where they are not given.
    nodes, gpus, cpus
        Machines, GPUs on each, and processors of each process.
    directives
        Any other of sbatch's options, by name.
    setup
        Lines of shell to run first.
    resumes
        Whether the command saves its state when it gets a signal, and continues when it is started again.
    """

    name: str
    program: Sequence[str] = ("genevae",)
    command: Sequence[str]
    folder: Path
    each: Mapping[str, Sequence[str]] = field(default_factory=dict)
    partition: str | None = None
    time: str | None = None
    memory: str | None = None
    nodes: int = 1
    gpus: int = 0
    cpus: int = 4
    directives: Mapping[str, str] = field(default_factory=dict)
    setup: Sequence[str] = ()
    resumes: bool = False

    def __post_init__(self) -> None:
        """Check the values that the queue would reject or misread."""
        for what, given, pattern, example in (
            ("time", self.time, _TIME, "4:00:00 (hours, minutes, seconds) or 2-12 (days, hours)"),
            ("memory", self.memory, _MEMORY, "64G, for each node"),
        ):
            if given is not None and not pattern.fullmatch(given):
                raise RecipeError(f"SLURM knows no {what} '{given}'. Write it like {example}.")
        if not self.name.isprintable():
            raise RecipeError(f"The name of a job is one line of text, not {self.name!r}. Give another --script.")
        for what, number, least in (("nodes", self.nodes, 1), ("gpus", self.gpus, 0), ("cpus", self.cpus, 1)):
            if number < least:
                raise RecipeError(f"{what} must be {least} or more, not {number}.")
        for name, value in (*self.directives.items(), ("partition", self.partition or "")):
            if not _NAME.fullmatch(name) or "\n" in value:
                raise RecipeError(f"'{name}={value}' is no option of sbatch. Write NAME=VALUE, such as account=mylab.")
        if not self.resumes and self.n_processes > 1:
            raise RecipeError(
                f"This command is one process, and cannot use {self.nodes} nodes with {self.gpus} GPUs each. Only fit "
                "can: leave out --nodes, and request one GPU."
            )

    @property
    def n_processes(self) -> int:
        """Number of processes: one for each GPU, or for each machine where there are none."""
        return self.nodes * max(self.gpus, 1)

    @property
    def combinations(self) -> list[dict[str, str]]:
        """The values of each job of the array, in order; one job without any where there is no array."""
        return [dict(zip(self.each, values, strict=True)) for values in itertools.product(*self.each.values())]


def sbatch_script(job: Job) -> str:
    """Write a job as a script for sbatch: its needs first, then commands."""
    parts = [
        "#!/bin/bash",
        f"# Written by genevae {version('genevae')}. Put it into the queue: sbatch {shlex.quote(job.name + '.sbatch')}",
        *(f"#SBATCH --{name}={shlex.quote(value)}" if value else f"#SBATCH --{name}" for name, value in _needs(job)),
        "",
        f"cd {shlex.quote(str(job.folder))} || exit 1",
        *_setup(job),
        'export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"',
        "",
        *_array(job),
        *_run(job),
    ]
    return "\n".join(parts) + "\n"


def _needs(job: Job) -> list[tuple[str, str]]:
    """Return the options of sbatch."""
    last = len(job.combinations) - 1
    needs: dict[str, str | None] = {
        "job-name": job.name,
        "output": f"{job.name}-{'%A_%a' if job.each else '%j'}.log",
        "open-mode": "append",
        "partition": job.partition,
        "time": job.time,
        "mem": job.memory,
        "nodes": str(job.nodes),
        "ntasks-per-node": str(max(job.gpus, 1) if job.resumes else 1),
        "cpus-per-task": str(job.cpus),
        "gpus-per-node": str(job.gpus) if job.gpus else None,
        "array": f"0-{last}" if job.each else None,
        "requeue": "",
        "signal": f"USR1@{WARNING}" if job.resumes else None,
        **job.directives,
    }
    return [(name, value) for name, value in needs.items() if value is not None]


def _setup(job: Job) -> list[str]:
    """Run the lines of the user, and take the genevae that they make the first in the PATH."""
    if not job.setup:
        return []
    return [
        f"run=({shlex.join(job.program)})",
        'before="$(command -v genevae)"',
        *job.setup,
        "# Where these lines put another genevae first in the PATH, such as a virtual environment, it runs.",
        'if [ "$(command -v genevae)" != "$before" ]; then run=(genevae); fi',
    ]


def _array(job: Job) -> list[str]:
    """List the values of every job of the array, and choose those of this one."""
    if not job.each:
        return []
    lists = {name: [values[name] for values in job.combinations] for name in job.each}
    return [
        "# Each job of the array takes one value of every list.",
        *(f"{_variable(name)}_of=({shlex.join(values)})" for name, values in lists.items()),
        *(f'{_variable(name)}="${{{_variable(name)}_of[$SLURM_ARRAY_TASK_ID]}}"' for name in lists),
        "",
    ]


def _run(job: Job) -> list[str]:
    """Start the processes, and requeue the job where it is unfinished."""
    comment = ["# One process for each GPU (or machine); they find each other through SLURM."] * (job.n_processes > 1)
    start = "srun --kill-on-bad-exit=1" if job.n_processes > 1 else "srun"
    line = f'{start} --cpus-per-task="$SLURM_CPUS_PER_TASK" {_command_line(job)}'
    if not job.resumes:
        return [*comment, line]
    return [
        *comment,
        line,
        "status=$?",
        "",
        f"# {PAUSED}: a signal stopped it, and its state is saved. Started again, it continues.",
        f'if [ "$status" -eq {PAUSED} ]; then',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$status"',
    ]


def _command_line(job: Job) -> str:
    """Quote the command; in an array, options and the output path depend on the job."""
    parts = [shlex.quote(word) for word in job.command]
    program = '"${run[@]}"' if job.setup else shlex.join(job.program)
    if not job.each:
        return " ".join([program, *parts])
    at = _index_of_out(job.command)
    path = Path(job.command[at])
    values = "-".join(f"${{{_variable(name)}}}" for name in job.each)
    parts[at] = f'{shlex.quote(str(path.with_suffix("")))}-"{values}"{shlex.quote(path.suffix) if path.suffix else ""}'
    return " ".join([program, *parts, *(f'--{name} "${_variable(name)}"' for name in job.each)])


def _index_of_out(command: Sequence[str]) -> int:
    """Return the index of the value of --out."""
    if "--out" not in command[:-1]:
        raise RecipeError("Each job of an array needs an output path: give --out PATH, with a space.")
    return command.index("--out") + 1


def _variable(name: str) -> str:
    return name.replace("-", "_")
