"""`genevae show`."""

from __future__ import annotations

import genevae as gv
from genevae.cli.options import Run, say

__all__ = ["show"]


def show(run: Run) -> None:
    """Describe a trained model: recipe, data, training, settings, and its layers with shapes and parameters."""
    from genevae.runs.layers import layer_table

    model = gv.load(run)
    schema, facts, parts = model.schema, model.facts, model.parts
    table = layer_table(model.module)
    settings = ", ".join(f"{name}={value}" for name, value in model.recipe.settings().items() if value is not None)
    say(
        f"recipe      {model.recipe.name}: {model.recipe.description}",
        f"data        {facts.get('data', 'unknown')}: {schema.kind}, {len(schema.genes):,} genes",
        f"cells       {', '.join(f'{n:,} {part}' for part, n in parts.items())}",
        f"conditions  {', '.join(schema.fields) or 'none'}",
        f"training    {len(model.history)} epochs, the best {facts['best_epoch']}: {facts['ended']}",
        f"settings    {settings}",
        "",
        table.to_string(index=False),
        "",
        f"{table['parameters'].sum():,} parameters",
    )
