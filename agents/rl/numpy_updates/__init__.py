"""Updates of the off-policy agents written out in NumPy."""
