"""``python -m benchmarks.launching``: how many more runs two workers finish than one."""
