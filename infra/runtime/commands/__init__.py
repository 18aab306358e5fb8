"""Runs commands: one at a time a stream, from people, files and processes."""
