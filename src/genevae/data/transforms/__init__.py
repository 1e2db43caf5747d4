"""Transforms from the values in the data to the input of a model."""
