"""The packed file: arrays at their bit widths."""
