"""Pages are of one build: what was being made while another began to be served is made anew.

A page asks several times for what it shows. Should the tables it is read from be switched between
two of those, it might show both; so it is held back until it is complete, and thrown away if what
is served has changed since it was begun.
"""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRIES_MAX = 5
REPEATABLE = frozenset({"GET", "HEAD"})


class WholePages:
    """`served` tells what is served from what was served before; `streams` are the paths of
    answers that have no end, and are of no build."""

    def __init__(self, served: Callable[[], int], streams: frozenset[str] = frozenset()) -> None:
        self._served = served
        self._streams = streams

    async def answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer. After several switches in a row it does so as it can."""
        if scope["method"] not in REPEATABLE or scope["path"] in self._streams:
            await app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        for left in reversed(range(TRIES_MAX)):
            begun = self._served()
            held.clear()
            try:
                await app(scope, receive, hold)
            except Exception:
                # Half of what it needed may just have been replaced. Else it is the caller's.
                if begun == self._served() or not left:
                    raise
                continue
            if begun == self._served():
                break
        for message in held:
            await send(message)
