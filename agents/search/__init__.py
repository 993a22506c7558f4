"""Agents that search: they propose whole policies, and learn nothing that a network holds."""
