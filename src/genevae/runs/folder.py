"""The folder of a run, from the start of training to the finished model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genevae.errors import DataError
from genevae.io.atomic import locked
from genevae.runs.checkpoint import Checkpoints
from genevae.runs.event_log import EventLog
from genevae.runs.every import Every
from genevae.runs.manifest import START, complete_folder, require_place, verify_folder, write_folder
from genevae.runs.signals import stop_signals
from genevae.runs.trained import Trained, facts_of, files_of
from genevae.training.callbacks import NoCheckpoints
from genevae.training.world import World

__all__ = ["Run"]

CONFIG, LOG = "config.toml", "log.jsonl"
SAME = {"fingerprint": "expression", "fingerprint_of_covariates": "covariates, genes or parts"}
"""What must not have changed when training goes on, and what it is made of."""


@dataclass
class Run:
    """The folder that a model is trained in.

    With checkpoints the folder is there as soon as training begins, with ``start.json`` as its manifest; the model's
    files are added when training has ended, and ``manifest.json`` last of all. Without, it appears as a whole at the
    end.

    Parameters
    ----------
    path
        The folder.
    overwrite
        Whether what is there is replaced: at the start with checkpoints, at the end without.
    every
        How often the state of training is kept; never by default.
    keep
        How many such states are kept.
    resumes
        Whether training goes on that began before.
    log
        Is told what happens.
    ranks
        The processes that train together: the first writes, the others only read.
    """

    path: Path
    overwrite: bool = False
    every: Every | None = None
    keep: int = 2
    resumes: bool = False
    log: EventLog = field(default_factory=EventLog)
    ranks: World = field(default_factory=World.alone)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out.

        Raises
        ------
        RunError
            If another process is in it, or the folder is there already and is not to be replaced.
        """
        if not self.ranks.is_first:
            yield
            return
        with locked(self.path):
            if not self.resumes:
                require_place(self.path, self.overwrite)
            yield

    def begin(self, config: str, facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Write down how training begins; where it goes on, return what was written then.

        Parameters
        ----------
        config
            The settings of the fit as TOML.
        facts
            What the manifest is to say of how training began.

        Raises
        ------
        DataError
            If training is to go on with other data.
        RunError
            If the folder is damaged, or cannot be written.
        """
        if self.resumes:
            begun = self._require_same(facts)
            self.log = EventLog(self.path / LOG if self.ranks.is_first else None)
            return (self.path / CONFIG).read_text(encoding="utf-8"), begun
        if self.every is not None and self.ranks.is_first:
            files = {CONFIG: lambda file: file.write_text(config, encoding="utf-8")}
            write_folder(self.path, files, facts, self.overwrite, manifest=START)
            self.log = EventLog(self.path / LOG)
        self.log.write("start", **facts)
        return config, facts

    @contextmanager
    def checkpoints(self) -> Iterator[NoCheckpoints]:
        """Lend what keeps the state of training; signals that ask for an end are its concern as long."""
        if self.every is None:
            yield NoCheckpoints()
            return
        with stop_signals() as asked:
            yield Checkpoints(self.path, self.every, self.keep, asked, self.log)

    def _require_same(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        begun = verify_folder(self.path, START)
        for name, what in SAME.items():
            if begun[name] != facts[name]:
                raise DataError(
                    f"The data are not those that {self.path} began with: {facts['data']} has other {what}. Put the "
                    "data back as they were, or train anew in another folder."
                )
        return begun

    def finish(self, model: Trained) -> None:
        """Write the model.

        Raises
        ------
        RunError
            If the folder cannot be written.
        """
        if not self.ranks.is_first:
            return
        text = self.log.text
        files = {**files_of(model), LOG: lambda file: file.write_text(text, encoding="utf-8")}
        if self.every is None:
            write_folder(self.path, files, facts_of(model), self.overwrite)
        else:
            complete_folder(self.path, files, facts_of(model))
