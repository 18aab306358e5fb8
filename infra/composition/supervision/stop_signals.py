"""The signals that end `plaza up`, also the one that only reached the `make` it was started by."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.5


def stop_on_signals(again: Callable[[], None]) -> "asyncio.Future[None]":
    """Done at the first signal to stop; `again` is called at each one more."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()

    def told() -> None:
        if stopped.done():
            again()
        else:
            stopped.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Under nohup we are to survive the terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, told)
    watching = asyncio.create_task(_watch_make(stopped))
    stopped.add_done_callback(lambda _: watching.cancel())
    return stopped


async def _watch_make(stopped: "asyncio.Future[None]") -> None:
    """make passes SIGTERM on to its recipe, but SIGINT only makes it wait for the recipe's end.

    It waits inside of its handler, where the kernel holds further SIGINTs back: that can be seen.
    """
    parent = os.getppid()
    if _line(parent, "Name") != "make":
        return
    seen = 0
    # Twice, since make also holds signals back for a moment while it starts a recipe.
    while seen < 2:
        await asyncio.sleep(POLL_SECONDS)
        held_back = int(_line(parent, "SigBlk") or "0", 16) >> (signal.SIGINT - 1) & 1
        seen = seen + 1 if held_back else 0
    if not stopped.done():
        stopped.set_result(None)


def _line(process_id: int, name: str) -> str:
    """What the kernel tells of a process under this name."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
    return ""
