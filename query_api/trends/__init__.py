"""What trends: the uses of tags in columns of numbers, and boards counted from them."""
