"""What ``make bench`` prints: one table of everything that was measured."""
