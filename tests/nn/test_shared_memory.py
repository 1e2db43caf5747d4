"""Memory that processes share: who cannot have it, and what they say when one of them ends or does not answer."""

from __future__ import annotations

import pytest
from tests.training.processes import finish, start

SCRIPT = """
import atexit, os, sys, time
from datetime import timedelta
import torch
from torch import distributed
from genevae.nn import shared_memory
from genevae.nn.shared_memory import SharedMemory

distributed.init_process_group("gloo")
atexit.register(distributed.destroy_process_group)
rank = distributed.get_rank()
{before}
memory = SharedMemory.connect(timedelta(seconds=0.5))
if memory is None:
    print("none")
else:
    for number in range(50):
        x = torch.arange(3.0) * rank + number
        assert memory.gather(x).tolist() == [[number, number + r, number + 2 * r] for r in range(3)]
        memory.add_up(x)
        assert x.tolist() == [3 * number, 3 * number + 3, 3 * number + 6]
    {after}
    memory.gather(x)
"""


def run(before: str = "", after: str = "") -> list[tuple[int, str, str]]:
    return finish(start(3, ["-c", SCRIPT.format(before=before, after=after)]), within=60)


def test_three_processes_exchange_numbers():
    assert [code for code, *_ in run()] == [0, 0, 0]


def test_a_process_that_ends_is_noticed_by_the_others():
    first, second, ended = run(after="if rank == 2: os._exit(7)")
    assert ended[0] == 7
    for code, _, errors in (first, second):
        assert code == 1
        assert "process 2 has ended" in errors or "has ended" in errors.splitlines()[-1]


def test_a_process_that_does_not_answer_is_named():
    for code, _, errors in run(after="if rank == 2: time.sleep(5)")[:2]:
        assert code == 1
        assert "process 2 has not answered" in errors or "has ended" in errors


@pytest.mark.parametrize(
    "why",
    [
        "shared_memory.MOST = 2",
        "shared_memory.platform.machine = lambda: 'aarch64'",
        "if rank == 2: shared_memory._open = lambda *_: None",
        "if rank == 1: shared_memory._mark = lambda number: b'another machine'",
    ],
)
def test_where_one_cannot_share_memory_none_does(why):
    assert [(code, said) for code, said, _ in run(why)] == [(0, "none\n")] * 3
