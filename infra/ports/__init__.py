"""What the pure code is given, and what an adapter must provide: protocols and their values."""
