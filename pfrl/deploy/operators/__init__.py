"""A network as one graph of fused operations, which the emitters of all formats read."""
