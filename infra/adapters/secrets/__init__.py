"""Keys and passwords: all that must not be in the log."""
