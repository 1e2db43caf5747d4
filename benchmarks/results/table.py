"""Markdown tables, and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Verdict", "met", "table"]


class Verdict(NamedTuple):
    """Whether a target was met on something."""

    on: str
    met: bool


def met(is_met: bool) -> str:
    """Write a verdict; what is missed stands out."""
    return "met" if is_met else "**missed**"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "--:") -> list[str]:
    """Return the lines of a table; all but the first column to the right, or as ``align`` says.

    >>> table(["", "score"], [["a", "1"]])
    ['|  | score |', '|---|--:|', '| a | 1 |']
    """
    rule = "|" + "|".join(["---"] + [align] * (len(head) - 1)) + "|"
    written = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return [written[0], rule, *written[1:]]
