"""The log of events: appending, reading, and what carries it to those who follow."""
