"""Timelines in Redis."""
