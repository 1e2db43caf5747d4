"""How well a model explains cells that it was not trained on."""
