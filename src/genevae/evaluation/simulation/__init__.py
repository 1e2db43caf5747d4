"""Whether simulated cells can be told from real ones."""
