"""How long a step takes, on a machine that may be busy with other things."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["seconds_of"]

WARM_UP = 3


def seconds_of(step: Callable[[], object], steps: int) -> tuple[float, float]:
    """Return the clock's seconds of the fastest step, and the processor's of the median one."""
    clock, processor = [], []
    for _ in range(WARM_UP + steps):
        started, spent = time.perf_counter(), time.process_time()
        step()
        clock.append(time.perf_counter() - started)
        processor.append(time.process_time() - spent)
    return min(clock[WARM_UP:]), statistics.median(processor[WARM_UP:])
