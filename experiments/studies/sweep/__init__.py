"""``pfrl sweep``: searchers compared at equal evaluation budgets."""
