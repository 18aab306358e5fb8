"""A post: published once, perhaps as a reply or a quote, and perhaps deleted."""
