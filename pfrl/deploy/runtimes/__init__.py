"""The runtimes that a file is judged and measured in."""
