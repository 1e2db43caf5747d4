"""Progress: a bar on a terminal, an element in a notebook, lines in a log, nothing where it is not wanted."""

import io
import logging
import os
import sys
import types

import pytest

from genevae.calls import public
from genevae.errors import GenevaeWarning
from genevae.progress import SECONDS_BETWEEN_LINES, progress
from genevae.session import Settings, settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch):
    """Work of other tests that was never ended does not count."""
    monkeypatch.setattr("genevae.progress._ACTIVE", [])


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("genevae.progress.time.monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="genevae")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("shown", [False, True])
def test_a_terminal_has_a_bar_where_it_is_wanted(shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("calibrating", 3, shown) as advance:
        advance(3, "[as it is]")
    assert ("calibrating" in sys.stderr.getvalue()) == shown
    assert ("[as it is]" in sys.stderr.getvalue()) == shown


def test_a_log_has_the_first_line_one_a_minute_and_the_last(clock, lines):
    with progress("epoch", 400) as advance:
        for _ in range(400):
            clock.seconds += 1
            advance(1, "loss 5")
    assert lines()[0] == "epoch 1/400: loss 5"
    assert lines()[1] == f"epoch {1 + SECONDS_BETWEEN_LINES:.0f}/400: loss 5, 6 min left"
    assert lines()[-1] == "epoch 400/400: loss 5"
    assert len(lines()) == 1 + 400 // SECONDS_BETWEEN_LINES + 1


def test_work_that_ends_early_has_no_time_left(clock, lines):
    with progress("epoch", 400) as advance:
        for _ in range(30):
            clock.seconds += 1
            advance(1)
    assert lines() == ["epoch 1/400", "epoch 30/400"]


def test_short_work_is_silent(clock, lines):
    with progress("embedding", 10, after=2) as advance:
        clock.seconds = 1.9
        advance(9)
    assert lines() == []
    with progress("embedding", 10, after=2) as advance:
        clock.seconds += 2
        advance(9)
    assert lines() == ["embedding 9/10, 0 s left"]


def test_work_that_fails_ends_its_progress(lines):
    def fails():
        with progress("epoch", 2) as advance:
            advance(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert lines() == ["epoch 1/2"]


@pytest.mark.parametrize("shown", [False, True])
def test_work_inside_other_work_is_silent(shown, lines):
    with progress("evaluating", 2, shown) as outer:
        with progress("cells", 5) as inner:
            inner(5)
        outer(2)
    assert lines() == (["evaluating 2/2"] if shown else [])
    with progress("cells", 5) as advance:
        advance(5)
    assert lines()[-1] == "cells 5/5"


def test_the_setting_of_the_session_is_kept_to(lines, monkeypatch):
    monkeypatch.setattr(settings, "progress", False)
    with progress("epoch", 2) as advance:
        advance(2)
    assert lines() == []


def test_a_log_that_nobody_configured_goes_to_stderr_as_it_is(capsys, monkeypatch):
    logger = logging.getLogger("another")
    logger.propagate = False
    monkeypatch.setattr("genevae.progress.LOGGER", logger)
    with progress("epoch", 2) as advance:
        advance(2, "100 % done")
    assert capsys.readouterr().err == "epoch 2/2: 100 % done\n"
    logger.setLevel(logging.WARNING)
    with progress("epoch", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""


def test_settings_have_no_other_names():
    mine = Settings()
    mine.progress = False
    mine.seed = 1
    with pytest.raises(AttributeError, match="fit\\(adata, batch_size=256\\)"):
        mine.batch_size = 1
    with pytest.raises(AttributeError, match="Did you mean 'progress'"):
        mine.progres = True
    with pytest.raises(AttributeError, match="num_threads"):
        _ = mine.n_jobs


def test_settings_set_the_level_and_the_threads():
    import torch

    level, threads = logging.getLogger("genevae").level, torch.get_num_threads()
    try:
        settings.verbosity = "warning"
        assert logging.getLogger("genevae").level == logging.WARNING
        assert settings.verbosity == "warning"
        settings.num_threads = 1
        assert torch.get_num_threads() == settings.num_threads == 1
        with pytest.warns(GenevaeWarning, match="threads on .* cores are slower than"):
            settings.num_threads = 1 + os.cpu_count()
    finally:
        logging.getLogger("genevae").setLevel(level)
        settings.num_threads = threads
    assert repr(settings).startswith("genevae.settings: progress=")


def test_work_that_was_abandoned_does_not_silence_later_calls(lines):
    def abandoned():
        with progress("cells", 2):
            yield

    @public
    def work() -> None:
        with progress("epoch", 1) as advance:
            advance(1)

    kept = abandoned()
    next(kept)
    work()
    assert lines()[-1] == "epoch 1/1"
    kept.close()
