"""What happens next: pure reactions of events to commands."""
