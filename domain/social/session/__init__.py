"""A log-in, from its start to its end."""
