"""What the numbers of an expression matrix are."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Kind"]


class Kind(StrEnum):
    """What the numbers of an expression matrix are.

    The names are those that ``schema.json`` and the inspection print.
    """

    COUNTS = "counts"
    """Molecules or reads: whole numbers, never negative."""
    FRACTIONAL = "expected counts"
    """Estimated counts (RSEM, kallisto, ambient-corrected): like counts, but not whole."""
    NORMALISED = "normalised"
    """TPM, CPM or the like, on the linear scale: each cell has about the same total."""
    LOG = "log-normalised"
    """log(1 + normalised)."""
    SCALED = "scaled"
    """Centred or standardised per gene: negative values occur."""

    @property
    def is_count(self) -> bool:
        """Whether a count likelihood can describe such numbers."""
        return self is Kind.COUNTS
