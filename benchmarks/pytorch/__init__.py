"""Networks of the zoo in PyTorch."""
