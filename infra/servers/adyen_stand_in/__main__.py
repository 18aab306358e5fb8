"""Runs the stand-in until SIGTERM: `python -m infra.servers.adyen_stand_in --port …`.

The API key and the HMAC key come from the environment, so that no process list shows them.
"""

import argparse
import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import uvloop
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from infra.servers.adyen_stand_in import API_KEY_VARIABLE, HMAC_KEY_VARIABLE
from infra.servers.adyen_stand_in.app import TRANSPORT, Merchant, build
from infra.servers.adyen_stand_in.faults import Switchboard
from infra.servers.adyen_stand_in.ledger import Ledger
from infra.servers.adyen_stand_in.notifications import Postman


class AbortableProtocol(HttpToolsProtocol):
    """Lets a request break its own connection, as a fault."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[literal-required]


def main() -> None:
    parser = argparse.ArgumentParser(prog="adyen-stand-in")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--merchant-account", required=True)
    parser.add_argument("--webhook-url", default="")
    parser.add_argument("--retry-scale", type=float, default=1 / 60)
    parser.add_argument("--seed", type=int, default=0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args()))


async def serve(arguments: Any) -> None:
    ledger = Ledger(arguments.folder / "ledger.jsonl")
    switchboard = Switchboard(arguments.seed)
    hmac_key = os.environ[HMAC_KEY_VARIABLE]
    postman = Postman(ledger, switchboard, arguments.webhook_url, hmac_key, arguments.retry_scale)
    merchant = Merchant(arguments.merchant_account, os.environ[API_KEY_VARIABLE])
    app = build(ledger, merchant, switchboard, postman, f"http://127.0.0.1:{arguments.port}/v72")
    config = Config(
        app,
        http=AbortableProtocol,
        loop="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    listener = socket.create_server(("127.0.0.1", arguments.port), backlog=1024)
    server = Server(config)
    delivering = asyncio.create_task(postman.run())
    serving = asyncio.create_task(server.serve([listener]))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
    await asyncio.wait({delivering, serving}, return_when=asyncio.FIRST_COMPLETED)
    delivering.cancel()
    await asyncio.gather(delivering, serving, return_exceptions=True)
    ledger.close()


if __name__ == "__main__":
    main()
