"""What our server offers to applications beyond ASGI: an answer in one write, and without a task.

ASGI has two messages for an answer, which uvicorn writes one by one: two packets and two system
calls, each of which may wake the client. And a task for a request, with the messages between it
and the server, costs more than what the busiest endpoints have to do.
"""

from collections.abc import Callable
from typing import Protocol

WHOLE = "plaza.whole"
"""Where the scope's extensions hold `Whole`, for requests that a task answers."""

Whole = Callable[[int, bytes, bytes], bool]
"""Answers with a status, headers, whose lines all end, and a body of the length they name. False,
and nothing sent, where that takes more than one write: ASGI's messages can wait for the client."""


class Exchange(Protocol):
    """A request that an application has begun to answer without a task."""

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """As `Whole`; where it takes more than one write, the application answers after all."""
        ...

    def leave(self) -> None:
        """Have the application answer after all."""
        ...
