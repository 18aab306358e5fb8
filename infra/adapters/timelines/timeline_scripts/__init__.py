"""The scripts that run inside Redis: each is one atomic step on timelines and how far they are."""
