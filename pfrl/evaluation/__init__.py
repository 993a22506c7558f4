"""From a policy to its quality and costs: the only door to a reward."""
