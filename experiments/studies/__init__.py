"""Studies: many runs with one table at the end."""
