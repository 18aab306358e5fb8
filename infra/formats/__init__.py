"""How things are written down: events in the log, events as JSON, timelines in Redis."""
