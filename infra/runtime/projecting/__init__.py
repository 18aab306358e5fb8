"""Applies frames to read models: once each, in order, and parked where they cannot be."""
