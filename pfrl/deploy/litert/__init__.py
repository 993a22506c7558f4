"""From an operator graph to a LiteRT file."""
