"""Runs processes and sagas: hands them events, keeps their timers, counts how they end."""
