"""One run: from a trained network to a report."""
