"""Names of users in pictures, as they are."""

from __future__ import annotations

__all__ = ["literal"]


def literal(name: object) -> str:
    r"""Return a name for a picture, so that it is shown as it is.

    Matplotlib reads text between dollar signs as mathematics, and leaves labels that start with an underscore out of
    legends. Use this for every name of a field, category, gene or file that goes into a picture.

    >>> print(literal("$x$"))
    \$x\$
    """
    text = str(name).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text
