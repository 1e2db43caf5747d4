"""How well a model predicts labels."""
