"""The public square: members, whom they follow, and what they post."""
