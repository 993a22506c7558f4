"""Training: one step, one loop, for base networks, for episodes and for the compressed network."""
