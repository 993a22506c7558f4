"""Networks as files for a runtime: exporting, running and measuring them."""
