"""What each metric means, in a line."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType

from genevae import metrics
from genevae.metrics.metric import Metric

__all__ = ["glossary"]


@cache
def glossary() -> Mapping[str, Metric]:
    """Return every metric of the package by its name, from the records beside the functions.

    >>> glossary()["accuracy"].meaning
    'Share of the cells whose label is predicted right.'
    """
    names = [module.name for module in pkgutil.iter_modules(metrics.__path__)]
    modules = [importlib.import_module(f"{metrics.__name__}.{name}") for name in names]
    return {metric.name: metric for module in modules for metric in _metrics_of(module)}


def _metrics_of(module: ModuleType) -> Iterator[Metric]:
    for value in vars(module).values():
        several = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        yield from (each for each in several if isinstance(each, Metric))
