"""A payment provider that speaks Adyen's Checkout v72 on this machine, for development and tests.

Nothing in the product knows of it: it is a server behind a URL, with books of its own. It knows the
test cards and the names that make a payment fail, sends signed notifications until they are
accepted, and has faults that can be switched on.
"""

import os
import sys
from pathlib import Path

import infra
from infra.servers.process import Program, answers_http, free_port

API_KEY_VARIABLE = "ADYEN_STAND_IN_API_KEY"
HMAC_KEY_VARIABLE = "ADYEN_STAND_IN_HMAC_KEY"


def adyen_program(  # noqa: PLR0913
    folder: Path,
    port: int | None = None,
    *,
    merchant_account: str,
    api_key: str,
    hmac_key: str,
    webhook_url: str,
    retry_scale: float = 1 / 60,
    seed: int = 0,
) -> Program:
    """`url` is the base URL of its Checkout API. A `retry_scale` of 1 is the provider's own."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    origin = f"http://127.0.0.1:{port}"
    arguments = {
        "--folder": str(folder),
        "--port": str(port),
        "--merchant-account": merchant_account,
        "--webhook-url": webhook_url,
        "--retry-scale": str(retry_scale),
        "--seed": str(seed),
    }
    source = str(Path(infra.__file__).parents[1])
    return Program(
        "adyen",
        (sys.executable, "-m", __name__, *(word for pair in arguments.items() for word in pair)),
        folder,
        folder / "adyen.log",
        url=f"{origin}/v72",
        answers=lambda: answers_http(f"{origin}/health"),
        environment={
            **os.environ,
            "PYTHONPATH": source,
            API_KEY_VARIABLE: api_key,
            HMAC_KEY_VARIABLE: hmac_key,
        },
    )
