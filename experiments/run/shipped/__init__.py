"""Files of networks: measured, and written again from a finished run."""
