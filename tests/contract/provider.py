"""The stand-in provider as tests use it: a process, and a receiver of what it sends."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from infra.servers.adyen_stand_in import adyen_program
from infra.servers.process import ServerProcess, start

ACCOUNT = "PlazaTest"
API_KEY = "key-of-a-test"
HMAC_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
WAIT_SECONDS = 10.0
ACCEPT, REFUSE = 200, 500


@dataclass
class Receiver:
    """Keeps every envelope; answers `status`."""

    status: int = ACCEPT
    envelopes: list[bytes] = field(default_factory=list)
    url: str = ""

    def items(self) -> list[dict[str, Any]]:
        return [
            wrapper["NotificationRequestItem"]
            for envelope in list(self.envelopes)
            for wrapper in msgspec.json.decode(envelope)["notificationItems"]
        ]

    def codes(self) -> list[str]:
        return [f"{item['eventCode']} {item['success']}" for item in self.items()]

    def wait_for(self, number: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.items()) >= number)
        return self.items()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver.envelopes.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/api/webhooks/adyen"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()


@dataclass
class StandIn:
    """A running stand-in, and the means to ask it anything without the library."""

    server: ServerProcess
    url: str

    def ask(
        self, path: str, body: Any, *, method: str = "POST", key: str = "", api_key: str = API_KEY
    ) -> tuple[int, Any]:
        headers = {"content-type": "application/json", "x-api-key": api_key}
        if key:
            headers["idempotency-key"] = key
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            said = answer.read()
            return answer.status, msgspec.json.decode(said) if said else None
        finally:
            connection.close()

    def page(self, path: str) -> str:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def books(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("/admin/ledger", b"", method="GET")[1]
        return found

    def switch(self, **faults: Any) -> None:
        status, said = self.ask("/admin/faults", faults, method="PUT")
        assert status == 204, said


def start_stand_in(folder: Path, webhook_url: str, retry_scale: float = 1 / 1200) -> StandIn:
    program = adyen_program(
        folder,
        merchant_account=ACCOUNT,
        api_key=API_KEY,
        hmac_key=HMAC_KEY,
        webhook_url=webhook_url,
        retry_scale=retry_scale,
    )
    return StandIn(start(program), program.url)


def card(number: str = "4111111111111111", name: str = "Ann Buyer") -> dict[str, str]:
    return {
        "type": "scheme",
        "holderName": name,
        "encryptedCardNumber": f"test_{number}",
        "encryptedExpiryMonth": "test_03",
        "encryptedExpiryYear": "test_2030",
        "encryptedSecurityCode": "test_737",
    }


def payment(reference: str, method: dict[str, str] | None = None, value: int = 2500) -> Any:
    return {
        "merchantAccount": ACCOUNT,
        "reference": reference,
        "amount": {"currency": "EUR", "value": value},
        "paymentMethod": method or card(),
        "returnUrl": "https://shop.example/back?x=1",
    }
