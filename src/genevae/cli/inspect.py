"""`genevae inspect`."""

from __future__ import annotations

import genevae as gv
from genevae.cli.options import Data, say

__all__ = ["inspect"]


def inspect(data: Data) -> None:
    """Describe a file: the kind of its values, empty cells, odd values, covariates, and the recipe that fits."""
    say(str(gv.inspect(data)))
