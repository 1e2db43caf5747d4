"""The number of threads that is fastest on a machine where other programs run."""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import TYPE_CHECKING

import torch

from genevae.training.callbacks import Callback

if TYPE_CHECKING:
    from genevae.training.history import Epoch
    from genevae.training.state import State

__all__ = ["FastestThreads"]

WARM = 10
"""Steps at the start that are not timed: loops are compiled, and memory is taken."""
N_STEPS = 6
"""Steps with each number of threads in turn, of which the first is not timed."""
N_TURNS = 3
"""How often each number has its turn, so that a disturbance does not decide."""
GAIN = 0.95
"""More threads are taken if a step takes less than this share of its time with fewer."""
SLOWER = 2.0
"""The number is chosen again where recent steps take this many times as long as when it was chosen."""
RECENT = 32
"""Steps whose median says how long recent steps take."""
AGAIN = 1_000
"""Steps after which the number is chosen again in any case."""


class FastestThreads(Callback):
    """Choose the number of threads of PyTorch by the pace of steps: 1, 2, 4, …, or all that it has.

    Two threads of a step wait for each other at each product and loop, so where another program takes a core, one
    thread alone is faster. A few steps are taken with each number in turn, and the fastest is kept until steps take
    twice as long, or for a thousand steps. PyTorch has its own number again when training ends.
    """

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self.candidates = [n for n in (2**power for power in range(16)) if n < self.most] + [self.most]
        self._seconds: dict[int, list[float]] = {}
        self._plan: list[int] = []
        self._taken, self._chosen_s = -WARM, 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._last: float | None = None

    def on_step(self, state: State) -> None:  # noqa: ARG002 - the loop's signature
        """Time a step, and change the number of threads where it is time to."""
        now = time.perf_counter()
        seconds, self._last = (now - self._last if self._last is not None else None), now
        self._taken += 1
        if self._taken < 0 or len(self.candidates) == 1:
            return
        if self._plan:
            self._probe(seconds)
        elif self._taken == 0 or self._taken >= AGAIN or self._has_become_slower(seconds):
            self._begin()

    def on_epoch(self, state: State, epoch: Epoch) -> None:  # noqa: ARG002 - the loop's signature
        """Leave validation out of the time of the next step."""
        self._last = None

    def on_close(self) -> None:
        """Give PyTorch its own number again."""
        torch.set_num_threads(self.most)

    def _begin(self) -> None:
        self._seconds = {n: [] for n in self.candidates}
        self._plan = [n for _ in range(N_TURNS) for n in self.candidates for _ in range(N_STEPS)]
        self._recent.clear()
        torch.set_num_threads(self._plan[0])

    def _probe(self, seconds: float | None) -> None:
        """Note the time of a step, and prepare the next."""
        n = self._plan.pop(0)
        if seconds is not None and len(self._plan) % N_STEPS < N_STEPS - 1:
            self._seconds[n].append(seconds)
        if self._plan:
            torch.set_num_threads(self._plan[0])
            return
        medians = {n: statistics.median(times) for n, times in self._seconds.items() if times}
        chosen = self.most
        for n in sorted(medians, reverse=True):
            if medians[n] * GAIN <= medians.get(chosen, medians[n]):
                chosen = n
        self._chosen_s, self._taken = medians.get(chosen, 0.0), 0
        torch.set_num_threads(chosen)

    def _has_become_slower(self, seconds: float | None) -> bool:
        if seconds is None:
            return False
        self._recent.append(seconds)
        return len(self._recent) == RECENT and statistics.median(self._recent) > SLOWER * self._chosen_s
