"""An account: a name, a profile, and its erasure."""
