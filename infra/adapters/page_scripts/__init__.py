"""The scripts of the shared page cache."""
