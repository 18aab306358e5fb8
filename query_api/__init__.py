"""Queries in, pages out."""
