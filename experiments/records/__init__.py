"""What is written while something runs: lines, histories, folders, and the wording of numbers."""
