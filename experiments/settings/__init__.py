"""What users can set, declared once."""
