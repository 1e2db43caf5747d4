"""Loops over arrays that numba compiles when they are first used: arrays in, arrays out."""
