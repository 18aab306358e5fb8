"""Keeps search indices: fills them, follows the log, compares them with the tables."""
