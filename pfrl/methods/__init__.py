"""Compression methods: each file a few pure functions."""
