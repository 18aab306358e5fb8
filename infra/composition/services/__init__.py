"""The processes we deploy: both services, the workers, the relay, and what they share."""
