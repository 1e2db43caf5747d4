"""How well a model tells labels."""
