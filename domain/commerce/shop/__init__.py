"""A member's shop: what makes a seller."""
