"""Verbs that borrow a trained model: one verb, one file. To add one: a file, and a line in ``cli``."""
