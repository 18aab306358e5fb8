"""What caches of the query service are made of: when something is kept, and when forgotten."""
