"""Takes `2.0` for 2 where a whole number is asked for: to JSON they are the same number."""

from typing import Any

import msgspec

from command_api.endpoint import Endpoint


class WholeNumbers(Endpoint):
    """An endpoint whose body holds counts or amounts."""

    def _read(self, raw: bytes) -> Any:
        if b"." not in raw:
            return super()._read(raw)
        try:
            return msgspec.convert(whole(msgspec.json.decode(raw)), self.operation.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # What is wrong with it is said of the body as it came.
            return super()._read(raw)


def whole(value: Any) -> Any:
    """The document with whole numbers for those that are."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return value
