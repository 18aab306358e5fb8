"""What a value from outside must look like, wherever it comes in; raises `Invalid`."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from domain.shared.identifiers import id_number
from domain.shared.rejection import Invalid

URL_LENGTH_MAX = 1_000


def check_text(text: str, pointer: str, *, length_min: int, length_max: int) -> None:
    """Lengths count Unicode code points. NUL and lone surrogates cannot be stored."""
    if not length_min <= len(text) <= length_max:
        raise Invalid(pointer, f"must have {length_min} to {length_max} characters")
    if "\0" in text:
        raise Invalid(pointer, "must not contain NUL")
    if not text.isascii() and has_surrogate(text):
        raise Invalid(pointer, "must not contain a lone surrogate")


def has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def check_https_url(url: str, pointer: str) -> None:
    check_text(url, pointer, length_min=1, length_max=URL_LENGTH_MAX)
    if not url.isprintable() or " " in url:
        raise Invalid(pointer, "must not contain spaces or control characters")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise Invalid(pointer, "must be a URL") from None
    if parts.scheme != "https" or not host:
        raise Invalid(pointer, "must be an https URL")


def check_id(text: str, pointer: str) -> None:
    try:
        id_number(text)
    except ValueError:
        raise Invalid(pointer, "must be an id") from None


def check_count(values: Sequence[object], pointer: str, *, count_max: int) -> None:
    if len(values) > count_max:
        raise Invalid(pointer, f"must have at most {count_max} items")
