"""Numbers as arguments."""

import argparse


def whole(text: str) -> int:
    """A whole number, 0 or more. Raises `ArgumentTypeError`."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return number
