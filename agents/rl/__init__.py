"""Agents that learn: stable-baselines3, with what AMC changed."""
