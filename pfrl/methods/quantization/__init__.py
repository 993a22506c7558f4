"""How numbers are rounded."""
