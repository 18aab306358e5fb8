"""Keeps home timelines: pushes entries, checks them, buries what is gone."""
