"""Whether simulated cells resemble real ones."""
