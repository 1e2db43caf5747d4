"""How cells respond to a condition: simple methods and the model, weighted by how well each predicted."""
