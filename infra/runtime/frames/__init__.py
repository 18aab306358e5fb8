"""Cuts the log into frames and brings them to whoever applies them."""
