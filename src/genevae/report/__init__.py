"""What an evaluation found, as records; and the page that shows them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module that may be called: ``gv.report(model, adata, "report.html")`` is what users try."""

    def __call__(self, models: Any, data: Any, out: Any = "report.html", **options: Any) -> Any:
        """Evaluate models, and write the report; see :func:`~genevae.evaluation.evaluate.evaluate`."""
        import genevae

        return genevae.evaluate(models, data, out=out, **options)


sys.modules[__name__].__class__ = _Callable
