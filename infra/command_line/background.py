"""Work that may take long, beside which pages are being served on the same machine."""

import os

NICENESS = 10
"""A ninth of what another process gets where both want a processor: never nothing, since what is
held still for a moment by such work waits for it."""


def give_way_to_others() -> None:
    """For the rest of this process, take what others leave of the processors."""
    os.nice(max(0, NICENESS - os.nice(0)))
