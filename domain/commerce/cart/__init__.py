"""A member's cart: what they mean to buy, and at what price they saw it."""
