"""Reading in threads: the order stays, and as many items are read at once as there are threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from genevae.data.prefetch import mapped


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_results_come_in_order_and_few_are_in_advance(n_threads: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    for count, square in enumerate(mapped(lambda x: x * x, items(), n_threads)):
        assert square == count * count
        assert len(taken) <= count + n_threads


def test_as_many_items_as_threads_are_read_at_once() -> None:
    together = threading.Barrier(3)
    assert list(mapped(lambda x: (together.wait(timeout=20), x)[1], range(6), 3)) == list(range(6))


def test_an_error_reaches_the_reader() -> None:
    with pytest.raises(ZeroDivisionError):
        list(mapped(lambda x: 1 / x, [2, 1, 0, 3], 2))
