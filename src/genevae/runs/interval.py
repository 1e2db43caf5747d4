"""How often something is done in training."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Literal, Self

from genevae.errors import RecipeError

__all__ = ["Interval"]

Unit = Literal["steps", "minutes", "epochs"]
UNITS: dict[str, Unit] = {"": "steps", "m": "minutes", "e": "epochs"}


@dataclass
class Interval:
    """Every so many steps, minutes or epochs.

    Parameters
    ----------
    number
        How many.
    unit
        Of what.
    """

    number: float
    unit: Unit
    _last: float = field(default_factory=time.monotonic, repr=False)

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """Parse a number of steps, of minutes as in ``10m``, or of epochs as in ``2e``.

        >>> Interval.parse("10m").unit, Interval.parse(500).unit
        ('minutes', 'steps')

        Raises
        ------
        RecipeError
            If it is none of these.
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([me]?)", str(text).strip())
        number, unit = (float(found[1]), UNITS[found[2]]) if found else (0.0, UNITS[""])
        if number <= 0 or (unit != "minutes" and number != int(number)):
            raise RecipeError(
                f"Checkpoints cannot be made every '{text}'. Give a number of steps, as in 500, of minutes, as in "
                "10m, or of epochs, as in 2e."
            )
        return cls(number, unit)

    def after_step(self, step: int) -> bool:
        """Whether it is time, after this step."""
        if self.unit == "minutes" and time.monotonic() - self._last >= 60 * self.number:
            self._last = time.monotonic()
            return True
        return self.unit == "steps" and step % self.number == 0

    def after_epoch(self, epoch: int) -> bool:
        """Whether it is time, after this number of epochs."""
        return self.unit == "epochs" and epoch % self.number == 0
