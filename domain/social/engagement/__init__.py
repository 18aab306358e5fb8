"""What members do with posts: like them, and repost them."""
