"""`python crashing.py STEP ARGUMENT…`: genevae, of which process 1 is killed after a step, the first time."""

from __future__ import annotations

import os
import signal
import sys

from genevae.cli import main
from genevae.runs.checkpoint import Checkpoints
from genevae.training.launch_env import launched
from genevae.training.state import State

on_step = Checkpoints.on_step


def die_after_step(self: Checkpoints, state: State) -> None:
    on_step(self, state)
    if state.step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    launch = launched(os.environ)
    if launch.rank == 1 and not launch.restarts:
        Checkpoints.on_step = die_after_step  # type: ignore[method-assign]
    main(sys.argv[2:])
