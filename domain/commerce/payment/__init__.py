"""What the payment provider told us of its own accord: each notification once."""
