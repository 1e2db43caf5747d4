"""What makes a function of a trained model a task: it takes the path of a run too, and answers mistakes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary, ref

from genevae.calls import public
from genevae.errors import DataError, warn

if TYPE_CHECKING:
    from genevae.tasks.inference import TrainedModel

__all__ = ["TRAINED_ON", "add_to", "data_of_training", "task"]

TRAINED_ON: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()
"""By network, the AnnData in memory that it was trained on; a model keeps no data, and does not hold them."""

P = ParamSpec("P")
R = TypeVar("R")


def task(
    function: Callable[Concatenate[TrainedModel, P], R],
) -> Callable[Concatenate[TrainedModel | str | Path, P], R]:
    """Let a function take the path of a run as its model, a model after the data, and values of covariates by name.

    Where only one thing can be meant, it is done, with a note: ``embed(adata, model)`` is ``embed(model, adata)``, and
    ``generate(model, cell_type="B")`` is ``generate(model, condition={"cell_type": "B"})``.
    """
    parameters = inspect.signature(function).parameters
    known = list(parameters)
    needs_data = known[1:2] == ["data"] and parameters["data"].default is inspect.Parameter.empty

    inner = public(function)

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> R:
        if not arguments and "model" in options:
            arguments = (options.pop("model"),)
        if arguments:
            arguments = _model_first(arguments, function.__name__)
            model = _model(arguments[0], function.__name__, known)
            arguments = (model, *arguments[1:])
            if needs_data and "data" not in options:
                arguments = _with_data(arguments, function.__name__)
            if "source" in options and "condition" in known and len(arguments) > 1:
                arguments = (model, _of_source(arguments[1], options.pop("source"), model), *arguments[2:])
            options = _covariates_as_condition(options, model.schema.fields, known, function.__name__)
        elif "model" not in options:
            _model(None, function.__name__, known)
        if options.get("key_added") is not None:
            _require_anndata(arguments[1] if len(arguments) > 1 else options.get("data"))
            if any(options.get(name) is not None for name in ("out", "into")):
                raise DataError("Give key_added, to add the result to the AnnData, or a file (out, into), not both.")
        return inner(*arguments, **options)

    return called


def _model_first(arguments: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """Put the model first, where something else is there and a later argument is a model, or the folder of a run."""
    if _is_model(arguments[0]):
        return arguments
    at = next((at for at, each in enumerate(arguments) if _is_model(each)), None)
    if at is None:
        return arguments
    warn(f"{name} takes the model first: {name}(model, …).")
    return (arguments[at], *arguments[:at], *arguments[at + 1 :])


def _with_data(arguments: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """Put the data of training where none are given, if they are still in memory.

    Raises
    ------
    DataError
        If they are not.
    """
    model, *rest = arguments
    labels = {label for each in model.schema.categorical for label in (each.name, *each.labels)}
    if rest and not (isinstance(rest[0], str) and rest[0] in labels and not Path(rest[0]).exists()):
        return arguments
    return (model, data_of_training(model, name), *rest)


def data_of_training(model: Any, name: str) -> Any:
    """Return the AnnData that a model was trained on, with a note, for a function that is given no cells.

    Raises
    ------
    DataError
        If it is no longer in memory, or never was.
    """
    kept = TRAINED_ON.get(model.module)
    data = None if kept is None else kept()
    if data is None:
        raise DataError(f"A model does not keep its data: give the cells too, as in genevae.{name}(model, adata).")
    warn(f"{name} is given no cells: it takes the AnnData that the model was trained on.")
    return data


def _of_source(data: Any, source: Any, model: Any) -> Any:
    """Return the cells of one category, which ``source`` names as other packages do.

    Raises
    ------
    DataError
        If it is no category of one of the model's conditions, or the data are not an AnnData.
    """
    fields = [each.name for each in model.schema.categorical if source in each.categories]
    if len(fields) != 1 or not hasattr(data, "obs_names") or fields[0] not in data.obs:
        raise DataError(f"source={source!r} is no option: give the cells to start from, and the condition to predict.")
    warn(f"The cells with {fields[0]} = {source} are taken: give those, instead of a source.")
    return data[(data.obs[fields[0]].astype(str) == source).to_numpy()]


def _is_model(given: Any) -> bool:
    if isinstance(given, str | Path):
        return Path(given, "manifest.json").is_file()
    return hasattr(given, "module") and hasattr(given, "schema")


def _covariates_as_condition(
    options: dict[str, Any], fields: tuple[str, ...], known: list[str], name: str
) -> dict[str, Any]:
    """Put values of covariates that are given as options into the condition.

    Raises
    ------
    DataError
        If the task has no condition, or one that is no mapping.
    """
    given = {field: options[field] for field in fields if field in options and field not in known}
    condition = options.get("condition") or {}
    if not given:
        return options
    field, value = next(iter(given.items()))
    rest = {option: each for option, each in options.items() if option not in given}
    if "field" in known and "to" in known and len(given) == 1 and not {"field", "to"} & set(options):
        warn(f"{name} takes covariates as field={field!r}, to={value!r}.")
        return {**rest, "field": field, "to": value}
    if "condition" not in known or not isinstance(condition, dict):
        where = f"condition={{{field!r}: {value!r}}}, or its name as the field" if "condition" in known else "the field"
        raise DataError(f"{name} has no option '{field}', which is a covariate of the model: give it as {where}.")
    warn(f"{name} takes covariates as condition={ {**condition, **given}!r}.")
    return {**rest, "condition": {**condition, **given}}


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
