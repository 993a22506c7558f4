"""``pfrl pareto``: searches at several limits, and the front of what they found."""
