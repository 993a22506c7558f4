"""What is written when something has ended: reports, tables, pictures."""
