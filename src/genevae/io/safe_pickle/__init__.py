"""Safe reading of pickled tables: a stack machine that imports and calls nothing, and a list of allowed names."""
