"""``pfrl ablate``: the questions of the papers as data, run with seeds and intervals."""
