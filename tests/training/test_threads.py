"""The number of threads that is fastest just then."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from anndata import AnnData

import genevae as gv
from genevae.errors import RecipeError
from genevae.session import Settings
from genevae.training import threads
from genevae.training.threads import AGAIN, FastestThreads


class Machine:
    """A machine whose clock the test turns, on which steps with n threads take so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.now, self.n = 0.0, most
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.n)
        monkeypatch.setattr(torch, "set_num_threads", lambda n: setattr(self, "n", n))
        self.callback = FastestThreads()

    def run(self, seconds: dict[int, float], n_steps: int) -> list[int]:
        """Take steps, and return the threads of each."""
        taken = []
        for _ in range(n_steps):
            taken.append(self.n)
            self.now += seconds[self.n]
            self.callback.on_step(None)
        return taken


@pytest.mark.parametrize(
    ("seconds", "fastest"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.4, 6: 0.3}, 6),
        ({1: 1.0, 2: 0.6, 4: 0.59, 6: 0.58}, 2),
        ({1: 1.0, 2: 1.2, 4: 1.4, 6: 9.0}, 1),
        ({1: 1.0, 2: 0.99, 4: 0.98, 6: 0.97}, 1),
    ],
)
def test_the_fastest_number_is_kept_and_more_threads_only_where_they_gain(monkeypatch, seconds, fastest):
    machine = Machine(monkeypatch, 6)
    taken = machine.run(seconds, 200)
    assert set(taken) == {1, 2, 4, 6}, "all are tried"
    assert taken[:10] == [6] * 10, "not while loops are compiled"
    assert taken[90:] == [fastest] * 110
    machine.callback.on_close()
    assert machine.n == 6


def test_it_is_chosen_again_when_another_program_takes_a_core_and_when_that_ends(monkeypatch):
    machine = Machine(monkeypatch, 2)
    free, busy = {1: 1.0, 2: 0.6}, {1: 1.0, 2: 3.0}
    assert machine.run(free, 200)[-1] == 2
    assert machine.run(busy, 150)[-1] == 1
    assert machine.run(free, 100)[-1] == 1, "one thread is as fast as before, so nothing says that another would gain"
    assert machine.run(free, AGAIN)[-1] == 2


def test_validation_does_not_count(monkeypatch):
    machine = Machine(monkeypatch, 2)
    machine.run({1: 1.0, 2: 0.6}, 100)
    for _ in range(200):
        machine.now += 1e3
        machine.callback.on_epoch(None, None)
        assert machine.run({1: 1.0, 2: 0.6}, 1) == [2]


def test_a_fit_chooses_and_leaves_the_number_as_it_was(monkeypatch):
    tried, before = [], torch.get_num_threads()
    set_them = torch.set_num_threads
    try:
        torch.set_num_threads(2)
        gv.settings.num_threads = "auto"
        assert gv.settings.num_threads == "auto"
        monkeypatch.setattr(torch, "set_num_threads", lambda n: (tried.append(n), set_them(n)))
        counts = np.random.default_rng(0).poisson(1.0, (300, 20)).astype(np.float32)
        gv.fit(AnnData(counts), epochs=10, batch_size=32, progress=False)
        assert {1, 2} <= set(tried)
        assert torch.get_num_threads() == 2
    finally:
        gv.settings.num_threads = before
    assert gv.settings.num_threads == before


@pytest.mark.parametrize("number", [0, -1, "many", None, "2.5", 2.5, float("inf"), 5_000, 2**70])
def test_what_is_no_number_of_threads_is_refused(number):
    with pytest.raises(RecipeError, match="from 1 to 1,024, or 'auto'"):
        Settings().num_threads = number


@pytest.mark.parametrize(
    ("contents", "is_busy"),
    [
        (["99.0 99.0 99.0 1/80 4"] * 5, False),
        (["0.0 0.0 0.0 99/80 4"] * 5, True),
        ([*["0.0 0.0 0.0 1/80 4"] * 3, *["0.0 0.0 0.0 99/80 4"] * 2], False),
        (["", "words"], False),
        (["1.0 1.0 1.0 none"], False),
    ],
    ids=["after a job", "beside jobs", "for a moment", "empty", "another form"],
)
def test_a_machine_is_busy_while_others_run_and_not_after_that(monkeypatch, contents, is_busy):
    left = iter(contents)
    monkeypatch.setattr(gv, "open", lambda _: io.StringIO(next(left)), raising=False)
    assert gv._is_busy() == is_busy
