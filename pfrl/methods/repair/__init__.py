"""What is refitted after something was removed."""
