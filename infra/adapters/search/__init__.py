"""Search: its indices, the documents in them, and the questions to them."""
