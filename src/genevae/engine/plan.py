"""How a pass over cells is made, by this process and by every worker."""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from genevae.engine.executors import engine
from genevae.engine.light import is_light
from genevae.engine.parts import Block, computed_blocks
from genevae.engine.workers import Workers
from genevae.errors import DataError, GenevaeWarning, RunError
from genevae.io.read_options import ReadOptions

__all__ = ["Pass", "Plan"]


class Pass(Protocol):
    """A computation over cells in parts, each the same on any worker."""

    @property
    def n_parts(self) -> int:
        """The number of parts."""

    def blocks(self, parts: range) -> Generator[Block, None, None]:
        """Yield the rows of some parts, in order."""


class Plan:
    """How a pass is made, by this process and by every worker.

    Parameters
    ----------
    make
        Makes the pass from the other arguments; a function at module level.
    **inputs
        What it is made from. Workers open models in their folders, and data at their paths.
    """

    def __init__(self, make: Callable[..., Pass], **inputs: Any) -> None:
        self.make = make
        self.inputs = inputs

    @cached_property
    def here(self) -> Any:
        """The pass, as this process makes it."""
        return self.make(**self.inputs)

    def blocks(self, workers: Workers | None = None, out: str | Path | None = None) -> Generator[Block, None, None]:
        """Yield the rows of all parts, in order; see :func:`computed_blocks`."""
        if workers is None:
            yield from self.here.blocks(range(self.here.n_parts))
            return
        with engine(workers) as found:
            shared = found is not None and found.shares_memory
            work: Callable[..., Any] = partial(_blocks_here, self) if shared else _Sent.of(self)
            n_parts = self.here.n_parts
            data = self.inputs.get("data", "the model")
            what = str(getattr(data, "path", data))
            yield from computed_blocks(found, work, ((number,) for number in range(n_parts)), n_parts, what, out)


def _blocks_here(plan: Plan, number: int) -> Iterator[Block]:
    with _ONE_AT_A_TIME:
        yield from plan.here.blocks(range(number, number + 1))


_ONE_AT_A_TIME = threading.Lock()
"""PyTorch has one stream of random numbers for all threads of a process."""
_OPENED: list[Any] = []
"""The name of the last plan that this worker has had, and its pass."""


@dataclass(frozen=True)
class _Sent:
    """A plan as it is sent to workers, each of which makes its pass once."""

    name: str
    make: Callable[..., Pass]
    inputs: Mapping[str, Any]

    @classmethod
    def of(cls, plan: Plan) -> _Sent:
        return cls(uuid.uuid4().hex, plan.make, {name: _as_sent(name, given) for name, given in plan.inputs.items()})

    def __call__(self, number: int) -> Iterator[Block]:
        with _ONE_AT_A_TIME:
            yield from self._made().blocks(range(number, number + 1))

    def _made(self) -> Pass:
        if _OPENED[:1] != [self.name]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", GenevaeWarning)  # the client has told them
                _OPENED[:] = self.name, self.make(**{name: _as_opened(given) for name, given in self.inputs.items()})
        made: Pass = _OPENED[1]
        return made


@dataclass(frozen=True)
class _Model:
    """A trained model as it is sent: its folder, and what must be in it."""

    folder: Path
    digests: Mapping[str, str]
    device: str

    def opened(self) -> Any:
        import genevae  # its public function, because engines know nothing of folders of runs

        model = genevae.load(self.folder, device=self.device)
        if model.facts["sha256"] != self.digests:
            raise RunError(f"{self.folder} has changed while it was in use. Start again.")
        return model


def _as_opened(given: Any) -> Any:
    """Return an input as a worker uses it."""
    if isinstance(given, dict):
        return {name: _as_opened(each) for name, each in given.items()}
    return given.opened() if isinstance(given, _Model) else given


def _as_sent(name: str, given: Any) -> Any:
    """Return what is sent to workers in place of an input, which they open themselves.

    Raises
    ------
    DataError, RunError
        If it is in the memory of this process alone.
    """
    if hasattr(given, "module") and hasattr(given, "schema"):
        if getattr(given, "folder", None) is None:
            raise RunError(
                "The workers of an executor open the model themselves, and this one is in memory alone. Save it, and "
                "open it: model.save(PATH), genevae.load(PATH)."
            )
        return _Model(given.folder, given.facts["sha256"], str(next(given.module.parameters()).device))
    if isinstance(given, dict):
        return {each: _as_sent(name, value) for each, value in given.items()}
    if isinstance(given, ReadOptions):
        paths = {each.name: _absolute(getattr(given, each.name)) for each in fields(given) if each.name in _PATHS}
        return replace(given, **paths)
    if name == "data":
        given = _absolute(given)
    if not is_light(given) and name != "data":
        raise RunError(
            f"The workers of an executor cannot be sent what is in memory alone ({type(given).__name__}), such as a "
            "model of another library. Leave out the executor."
        )
    if not is_light(given):
        raise DataError(
            f"The workers of an executor open the data themselves, and these are in memory ({type(given).__name__}). "
            "Give the path of a file; an AnnData is written by adata.write_h5ad(PATH)."
        )
    return given


_PATHS = ("path", "metadata", "gene_names")


def _absolute(given: Any) -> Any:
    """Return paths that a worker in another folder finds too; addresses stay."""
    if isinstance(given, tuple):
        return tuple(map(_absolute, given))
    if isinstance(given, Path) or (isinstance(given, str) and "://" not in given):
        return Path(given).absolute()
    return given
