"""From a policy (how much) and a recipe (by which methods) to a network."""
