"""What people launch: the command line, runs, reports."""
