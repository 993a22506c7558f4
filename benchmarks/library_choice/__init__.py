"""``python -m benchmarks.library_choice``: Torch-Pruning's own choice of channels beside ours."""
