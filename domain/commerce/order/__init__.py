"""An order: what one shop owes one buyer, what was paid for it, and what came back."""
