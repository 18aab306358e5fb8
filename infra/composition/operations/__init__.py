"""What operators and analysts do, assembled: one module for each kind of work."""
