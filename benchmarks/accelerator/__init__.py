"""Policies a second on a GPU, and in PyTorch on the same card; see ``__main__``."""
