"""How the jobs of experiments are done: a module a kind of work."""
