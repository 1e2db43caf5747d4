"""The layers of a model as a table."""

from __future__ import annotations

import pandas as pd
from torch import nn

__all__ = ["layer_table"]


def layer_table(module: nn.Module) -> pd.DataFrame:
    """List the layers that have parameters, in the order of the model.

    Parameters
    ----------
    module
        A model; parts that several layers share are listed once.

    Returns
    -------
    DataFrame
        ``layer``, its name; ``type``; ``shapes`` of its parameters; ``parameters``, their number.

    Examples
    --------
    >>> print(layer_table(nn.Sequential(nn.Linear(3, 2), nn.ReLU())).to_string(index=False))
    layer   type shapes  parameters
        0 Linear 2×3, 2           8
    """
    rows = []
    for name, layer in module.named_modules():
        parameters = list(layer.parameters(recurse=False))
        if parameters:
            shapes = ", ".join("×".join(map(str, parameter.shape)) or "1" for parameter in parameters)
            rows.append((name, type(layer).__name__, shapes, sum(parameter.numel() for parameter in parameters)))
    return pd.DataFrame(rows, columns=["layer", "type", "shapes", "parameters"])
