"""How this process was started: by itself, or as one of several by torchrun or by SLURM's srun."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launch", "first_host", "launched"]


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that were started together.

    Parameters
    ----------
    rank, n_ranks
        Its number, and how many there are.
    local_rank
        Its number on its own machine, which is that of its GPU.
    meeting
        Where they find each other, in torch's words.
    restarts
        How often the job was started before: by torchrun after a process had failed, or by SLURM's requeueing.
    """

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0
    meeting: str = ""
    restarts: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0


def launched(environment: Mapping[str, str]) -> Launch:
    """Read the place of this process from its environment.

    Under SLURM only a process that ``srun`` has started is one of several: a batch script has the number of tasks in
    its environment too, and is one process all the same. What ``srun`` starts may be torchrun, whose word then counts.
    """
    restarts = int(environment.get("TORCHELASTIC_RESTART_COUNT", 0)) + int(environment.get("SLURM_RESTART_COUNT", 0))
    if {"RANK", "WORLD_SIZE"} <= set(environment):
        local = int(environment.get("LOCAL_RANK", environment["RANK"]))
        return Launch(int(environment["RANK"]), int(environment["WORLD_SIZE"]), local, "env://", restarts)
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    if not nodes or "SLURM_PROCID" not in environment:
        return Launch(restarts=restarts)
    n_ranks = int(environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", 1)))
    meeting = f"tcp://{environment.get('MASTER_ADDR', first_host(nodes))}:{_port(environment)}"
    return Launch(
        int(environment["SLURM_PROCID"]), n_ranks, int(environment.get("SLURM_LOCALID", 0)), meeting, restarts
    )


def first_host(nodes: str) -> str:
    """Return the first of the machines in SLURM's shorthand.

    >>> [first_host(nodes) for nodes in ("gpu7", "gpu[003-005,9],cpu1", "a,b", "rack[1,4]-n[02-07]x")]
    ['gpu7', 'gpu003', 'a', 'rack1-n02x']
    """
    first = re.match(r"(?:[^,\[]|\[[^]]*\])*", nodes)
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", first.group() if first else nodes)


def _port(environment: Mapping[str, str]) -> int:
    """Choose a port that jobs and steps on one machine hardly share."""
    if "MASTER_PORT" in environment:
        return int(environment["MASTER_PORT"])
    job, step = (int(environment.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return 20_000 + (job * 7 + step) % 10_000
