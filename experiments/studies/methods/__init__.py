"""``pfrl methods``: compression methods compared on one network."""
