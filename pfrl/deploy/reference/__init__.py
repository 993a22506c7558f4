"""What the files mean: an operator graph in NumPy, with the integers that the formats define."""
