"""The folder of a run, from the start of training to the finished model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from genevae.errors import DataError
from genevae.io.atomic import locked
from genevae.io.overwrite import require_separate
from genevae.runs.checkpoint import Checkpoints
from genevae.runs.config import RunOptions
from genevae.runs.event_log import EventLog
from genevae.runs.interval import Interval
from genevae.runs.manifest import START, complete_folder, require_place, verify_folder, write_folder
from genevae.runs.signals import StopOnSignal, StopRequest
from genevae.runs.trained import Trained, facts_of, files_of
from genevae.training.callbacks import Callback
from genevae.training.world import World

__all__ = ["SAME", "RunFolder"]

CONFIG, LOG = "config.toml", "log.jsonl"
SAME = {"fingerprint": "expression", "fingerprint_of_covariates": "covariates, genes or split"}
"""Entries of the manifest that must not change when training is resumed, and what each stands for."""


@dataclass
class RunFolder:
    """The folder that a model is trained in.

    With checkpoints the folder exists as soon as training begins, with ``start.json`` as its manifest; the files of the
    model are added when training has ended, and ``manifest.json`` last of all. Without checkpoints, the complete folder
    appears at the end.

    Parameters
    ----------
    path
        The folder.
    overwrite
        Whether an existing folder is replaced: at the start with checkpoints, at the end without.
    every
        The interval of checkpoints; None makes none.
    keep
        How many checkpoints are kept.
    resumes
        Whether training continues an earlier start.
    log
        The log of events.
    world
        The processes that train together: the first writes, the others only read.
    """

    path: Path
    overwrite: bool = False
    every: Interval | None = None
    keep: int = 2
    resumes: bool = False
    log: EventLog = field(default_factory=EventLog)
    world: World = field(default_factory=World)

    @classmethod
    def of(
        cls,
        path: Path,
        options: RunOptions,
        overwrite: bool = False,
        resumes: bool = False,
        reads: Iterable[object] = (),
    ) -> Self:
        """Return the folder of a run with these options, which is nothing that is read."""
        if not resumes:
            require_separate(path, *reads)
        every = None if options.checkpoint_every is None else Interval.parse(options.checkpoint_every)
        return cls(path if path.name else path.resolve(), overwrite, every, options.keep_checkpoints, resumes)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out.

        Raises
        ------
        RunError
            If another process is training in it, or the folder exists and is not to be replaced.
        """
        if not self.world.is_first:
            yield
            return
        with locked(self.path):
            if not self.resumes:
                require_place(self.path, self.overwrite, ())
            yield

    def begin(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Write how training begins; where it is resumed, return what was written then.

        Parameters
        ----------
        facts
            What the manifest says of how training began, and under ``config`` the settings as TOML.

        Raises
        ------
        DataError
            If training is resumed with other data.
        RunError
            If the folder is damaged, or cannot be written.
        """
        if self.resumes:
            start = self.start(facts)
            self.log = EventLog(self.path / LOG if self.world.is_first else None)
            return start
        config = facts["config"]
        rest = {name: fact for name, fact in facts.items() if name != "config"}
        if self.every is not None and self.world.is_first:
            files = {CONFIG: lambda file: file.write_text(config, encoding="utf-8")}
            write_folder(self.path, files, rest, self.overwrite, manifest=START)
            self.log = EventLog(self.path / LOG)
        self.log.write("start", **rest)
        return facts

    def on_signal(self, stop: StopRequest) -> Callback:
        """Return the callback that saves checkpoints, or else the one that ends training at a signal."""
        if self.every is None:
            return StopOnSignal(stop)
        return Checkpoints(self.path, self.every, self.keep, stop, self.log)

    def start(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was written when training began.

        Raises
        ------
        DataError
            If it began with other data.
        RunError
            If the folder is damaged.
        """
        start = verify_folder(self.path, START)
        for name, what in SAME.items():
            if start[name] != facts[name]:
                raise DataError(
                    f"The data are not those that {self.path} began with: {facts['data']} has other {what}. Restore "
                    "the data, or train in another folder."
                )
        return {**start, "config": (self.path / CONFIG).read_text(encoding="utf-8")}

    def finish(self, model: Trained) -> None:
        """Write the model.

        Raises
        ------
        RunError
            If the folder cannot be written.
        """
        if not self.world.is_first:
            return
        text = self.log.text
        files = {**files_of(model), LOG: lambda file: file.write_text(text, encoding="utf-8")}
        if self.every is None:
            write_folder(self.path, files, facts_of(model), self.overwrite)
        else:
            complete_folder(self.path, files, facts_of(model))
