"""What makes a function of a trained model a task: it takes the path of a run too, and answers mistakes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from genevae.calls import public
from genevae.errors import DataError

if TYPE_CHECKING:
    from genevae.tasks.inference import TrainedModel

__all__ = ["add_to", "task"]

P = ParamSpec("P")
R = TypeVar("R")


def task(
    function: Callable[Concatenate[TrainedModel, P], R],
) -> Callable[Concatenate[TrainedModel | str | Path, P], R]:
    """Let a function take the path of a run as its model, and answer arguments that are swapped or misspelled."""
    known = list(inspect.signature(function).parameters)

    inner = public(function)

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> R:
        if not arguments and "model" in options:
            arguments = (options.pop("model"),)
        if arguments:
            model = _model(arguments[0], function.__name__, known)
            for name in options.keys() & set(model.schema.fields) - set(known):
                raise DataError(
                    f"{function.__name__} has no option '{name}', which is a covariate of the model: set it with "
                    f"condition={{{name!r}: {options[name]!r}}}, or give its name as the field."
                )
            arguments = (model, *arguments[1:])
        if options.get("key_added") is not None:
            _require_anndata(arguments[1] if len(arguments) > 1 else options.get("data"))
            if any(options.get(name) is not None for name in ("out", "into")):
                raise DataError("Give key_added, to add the result to the AnnData, or a file (out, into), not both.")
        return inner(*arguments, **options)

    return called


def _model(given: Any, name: str, known: list[str]) -> Any:
    """Return a trained model, opened if it is a path."""
    if isinstance(given, str | Path):
        import genevae  # its public function, because tasks know nothing of folders of runs

        return genevae.load(given)
    if not hasattr(given, "module") or not hasattr(given, "schema"):
        call = f"{name}(model, data)" if "data" in known else f"{name}(model)"
        raise DataError(
            f"{name} takes a trained model first, as genevae.fit and genevae.load return it, or the folder of a run: "
            f"genevae.{call}. This is {_described(given)}."
        )
    return given


def _described(given: Any) -> str:
    shape = getattr(given, "shape", None)
    return f"{type(given).__name__} of shape {tuple(shape)}" if shape is not None else f"{type(given).__name__}"


def add_to(data: Any, elements: dict[str, Any]) -> None:
    """Add results to the user's AnnData, because ``key_added`` says so.

    Parameters
    ----------
    data
        The object.
    elements
        By place, such as "obsm/X_vae": what is added, in the order of its cells.
    """
    for place, element in elements.items():
        mapping, key = place.split("/", 1)
        getattr(data, mapping)[key] = element


def _require_anndata(data: Any) -> None:
    """Raise if a result cannot be added to the data."""
    from anndata import AnnData

    if not isinstance(data, AnnData):
        raise DataError(
            f"key_added adds the result to an AnnData in memory, and the data are {_described(data)}. For a file, use "
            "into=FILE (--into), which adds it to the file."
        )
