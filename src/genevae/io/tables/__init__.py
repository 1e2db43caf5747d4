"""Tables of expression and of metadata."""
