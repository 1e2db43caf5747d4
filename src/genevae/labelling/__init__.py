"""Labels from expression: simple classifiers as members of one answer; arrays in, numbers out."""
