"""How personal values are written before they are sealed: a text as it is, all else as JSON."""

from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from domain.commerce.product.events import Attributes
from domain.shared.personal import Personal

Read = Callable[[str], Any]
"""Makes the value of the text that was sealed."""

IN_THE_CLEAR = b"not sealed: "
"""What begins like this was stored by a version that did not seal such values. No sealed text
begins so: as long as a nonce, it would have to be drawn by chance."""

_read_urls = msgspec.json.Decoder(list[str]).decode
_read_attributes = msgspec.json.Decoder(Attributes).decode
_write = msgspec.json.Encoder().encode


def written(value: Any) -> str:
    return value if isinstance(value, str) else _write(value).decode()


def in_the_clear(value: Any) -> bytes:
    return IN_THE_CLEAR + written(value).encode()


def held_by(kind: Any) -> Any:
    """What a `Personal` of this type holds, if it is or may be one; None for every other type."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return next((get_args(one)[0] for one in kinds if get_origin(one) is Personal), None)


def reader_of(held: Any) -> Read:
    return str if held is str else msgspec.json.Decoder(held).decode


def urls_in(opened: str | None) -> list[str]:
    """The list that was sealed; what was empty was not."""
    return [] if opened is None else _read_urls(opened)


def attributes_in(opened: str | None) -> Attributes:
    """The mapping that was sealed; what was empty was not."""
    return {} if opened is None else _read_attributes(opened)


def says_something(value: Any) -> bool:
    """Whether it has to be sealed: an empty list or mapping tells nothing of anybody."""
    return value is not None and value not in ((), {})
