"""Drives deciders, projections and processes. Knows ports, not products."""
