"""Comparisons with other libraries: development only, not part of the installed package."""
