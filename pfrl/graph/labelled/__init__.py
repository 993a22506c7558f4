"""A program whose axes carry labels: which indices can only be removed together."""
