"""Start what a test wants to run in several processes, and wait for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["finish", "free_port", "start"]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def start(n: int, command: Sequence[str], **environment: str) -> list[subprocess.Popen[str]]:
    """Start a Python command in several processes that know of each other as torchrun would tell them."""
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [{"RANK": str(rank), "WORLD_SIZE": str(n)} if n > 1 else {} for rank in range(n)]
    return [begin(command, {**shared, **rank, **environment}) for rank in ranks]


def begin(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], env=environment, text=True, stdout=pipe, stderr=pipe)


def finish(processes: Sequence[subprocess.Popen[str]], within: float = 240) -> list[tuple[int, str, str]]:
    """Wait for processes, and return the exit code of each and what it wrote."""
    try:
        ends = [process.communicate(timeout=within) for process in processes]
        return [(process.returncode, *end) for process, end in zip(processes, ends, strict=True)]
    finally:
        for process in processes:
            process.kill()
