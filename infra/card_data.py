"""Finds card data in clear, which must not be accepted, stored or logged anywhere.

A card number is 13 to 19 digits of any script, perhaps in groups, whose last one is right by Luhn's
rule. Values that the payment provider's form has encrypted are no such thing; on its test platform
they may be `test_` and the value.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

ENCRYPTED = re.compile(r"^encrypted[A-Z][A-Za-z]*$")
TEST_VALUE = re.compile(r"^test_[0-9A-Za-z/]{1,40}$")
DIGITS = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])")
DEPTH_MAX = 100
DIGIT_COUNTS = range(13, 20)


def holds_card_number(text: str) -> bool:
    return any(
        len(digits) in DIGIT_COUNTS and passes_luhn(digits)
        for found in DIGITS.findall(text if text.isascii() else plain(text))
        if (digits := found.replace(" ", "").replace("-", ""))
    )


def plain(text: str) -> str:
    """The text with ASCII's digits, space and dash for all that look so, and nothing invisible."""
    return "".join(map(_plain_letter, unicodedata.normalize("NFKC", text)))


def _plain_letter(letter: str) -> str:
    match unicodedata.category(letter):
        case "Nd":
            return str(unicodedata.decimal(letter))
        case "Zs":
            return " "
        case "Pd":
            return "-"
        case "Cf":
            return ""
        case _:
            return letter


def passes_luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(int(digit) for digit in digits[::-2]) + sum(doubled)) % 10 == 0


def card_data_in(document: Any, pointer: str = "") -> str | None:
    """Where in a decoded JSON document card data stands in clear; None where it does not.

    The pointer is cut off before a member whose name is itself such data.
    """
    for place, name, value in texts(document, pointer, 0):
        if ENCRYPTED.match(name) and TEST_VALUE.match(value):
            continue
        if holds_card_number(value):
            return place
    return None


def texts(value: Any, pointer: str, depth: int, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Every text and number of a document, names of members too: pointer, member's name, text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield pointer, "", str(key)
            below = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
            yield from texts(inner, below, depth + 1, str(key)) if depth < DEPTH_MAX else ()
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, f"{pointer}/{index}", depth + 1) if depth < DEPTH_MAX else ()
    elif value is not None and not isinstance(value, bool):
        yield pointer, name, str(value)
