"""What processes keep of their own."""
