"""From models of any library to what evaluation sees."""

from __future__ import annotations

from genevae.evaluation.adapters.scvi_tools import scvi
from genevae.evaluation.adapters.trained import as_evaluated

__all__ = ["as_evaluated", "scvi"]
