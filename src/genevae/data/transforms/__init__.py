"""From the numbers in a file to the numbers that a model sees."""
