"""Resumable download of files from a store."""
