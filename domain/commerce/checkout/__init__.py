"""A checkout: from a cart to confirmed orders, or back to where it began."""
