"""Fetching files from a store, so that a run may be killed at any moment."""
