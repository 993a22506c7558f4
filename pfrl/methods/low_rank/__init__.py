"""Two layers of one, with a rank between them."""
