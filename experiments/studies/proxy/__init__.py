"""``pfrl proxy``: short evaluations compared with long training."""
