"""Files under strain."""
