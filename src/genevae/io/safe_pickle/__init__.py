"""Tables in pickles, read without running them: a stack machine that imports and calls nothing, and what it admits."""
