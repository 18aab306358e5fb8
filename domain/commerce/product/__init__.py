"""A product: what a shop says about a thing it sells, and what it asks for it."""
