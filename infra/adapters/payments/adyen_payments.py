"""`infra.ports.payments.Payments` through Adyen's own library: Checkout v72.

The library blocks, so that each call has a thread; it neither pools connections nor puts the
merchant's account into a request, so both are done here. Its errors hold the whole request: none of
them leaves this module, and nothing of a request or an answer is ever logged.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_never
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import Adyen
import certifi
import msgspec
import structlog
import urllib3
from Adyen.exceptions import AdyenAPIResponseError, AdyenError
from urllib3 import exceptions
from urllib3.exceptions import NewConnectionError

from domain.shared.money import Money
from infra.card_data import holds_card_number
from infra.ports.payments import (
    Accepted,
    ActionRequired,
    Answer,
    Authorise,
    Authorised,
    Cancel,
    Capture,
    PaymentRequest,
    Pending,
    Refund,
    Refused,
    SubmitDetails,
    Unanswered,
)

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
CALLS_AT_ONCE_MAX = 32
REASON_LENGTH_MAX = 200
IN_FLIGHT = "704"
INVALID = frozenset({400, 422})
NOT_ALLOWED = frozenset({401, 403})
REFUSED_RESULTS = frozenset({"Refused", "Cancelled", "Error"})
PENDING_RESULTS = frozenset({"Pending", "Received"})

_encode = msgspec.json.Encoder().encode

log = structlog.get_logger(__name__)


class PooledClient:
    """What the library asks of an HTTP client, on connections that are kept."""

    user_agent = "plaza adyen-python-api-library"

    def __init__(self, base_url: str, answer_seconds: float) -> None:
        self._pool = connections(
            base_url,
            maxsize=CALLS_AT_ONCE_MAX,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=answer_seconds),
            retries=False,
            ca_certs=certifi.where(),
        )

    def request(
        self, method: str, url: str, *, json: Any, xapikey: str, headers: Mapping[str, str]
    ) -> tuple[str, None, int, Mapping[str, str]]:
        """The request itself is not handed back, as the library would keep it."""
        found = self._pool.request(
            method,
            url,
            body=_encode(json),
            headers={**headers, "Content-Type": "application/json", "x-api-key": xapikey},
            redirect=False,
        )
        return found.data.decode(), None, found.status, found.headers

    def close(self) -> None:
        self._pool.clear()


def connections(base_url: str, **settings: Any) -> urllib3.PoolManager:
    """Through the proxy that the environment names for this address, if any."""
    address = urlsplit(base_url)
    proxy = getproxies().get(address.scheme)
    if proxy is None or proxy_bypass(address.hostname or ""):
        return urllib3.PoolManager(**settings)
    found = urlsplit(proxy)
    known = f"{found.username}:{found.password or ''}" if found.username else None
    return urllib3.ProxyManager(
        proxy, proxy_headers=urllib3.make_headers(proxy_basic_auth=known), **settings
    )


class AdyenPayments:
    """`infra.ports.payments.Payments` on Adyen's Checkout, by its own library, in threads."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        merchant_account: str,
        *,
        return_url: str,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """`return_url` is where a buyer is sent back to whose request names no place."""
        base_url = base_url.rstrip("/")
        # The library rewrites "-live" in addresses unless it is told that it is live.
        live = "-live" in base_url
        self._client = PooledClient(base_url, answer_seconds)
        make: Any = Adyen.Adyen
        library = make(
            xapikey=api_key,
            platform="live" if live else "test",
            live_endpoint_prefix="unused" if live else None,
        )
        library.client.http_client = self._client
        library.client.http_init = True
        self._payments = library.checkout.payments_api
        self._modifications = library.checkout.modifications_api
        self._payments.baseUrl = self._modifications.baseUrl = base_url
        self._account = merchant_account
        self._return_url = return_url
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE_MAX, thread_name_prefix="adyen")

    async def ask(self, request: PaymentRequest) -> Answer:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._ask, request)
        log.info(
            "adyen.asked",
            operation=type(request).__name__,
            key=request.key,
            answer=type(found).__name__,
            seconds=round(time.monotonic() - began, 4),
        )
        return found

    def close(self) -> None:
        """Drop the connections; calls on their way end by themselves, and nobody looks at them."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _ask(self, request: PaymentRequest) -> Answer:  # noqa: PLR0911
        try:
            return self._call(request)
        except AdyenAPIResponseError as error:
            return refused_or_unknown(error, request)
        except AdyenError as error:
            return Unanswered(type(error).__name__)
        except NewConnectionError:
            # To urllib3 this is a time-out too.
            return Unanswered("there is no connection")
        except exceptions.TimeoutError:
            return Unanswered("it did not answer in time")
        except exceptions.HTTPError:
            return Unanswered("the connection was lost")
        except Exception as error:
            # What the provider sent was not what it should be; what it did is not known.
            return Unanswered(f"its answer could not be read ({type(error).__name__})")

    def _call(self, request: PaymentRequest) -> Answer:
        match request:
            case Authorise():
                return outcome(
                    self._send(self._payments.payments, request.key, self._body(request))
                )
            case SubmitDetails():
                send = self._payments.payments_details
                return outcome(self._send(send, request.key, dict(request.secrets)))
            case Capture():
                send = self._modifications.capture_authorised_payment
                return self._modify(send, request, request.amount)
            case Cancel():
                send = self._modifications.cancel_authorised_payment_by_psp_reference
                return self._modify(send, request, None)
            case Refund():
                send = self._modifications.refund_captured_payment
                return self._modify(send, request, request.amount)
            case _:
                assert_never(request)

    def _body(self, request: Authorise) -> dict[str, Any]:
        stored = "storedPaymentMethodId" in request.secrets["paymentMethod"]
        return {
            "returnUrl": self._return_url,
            **request.secrets,
            "merchantAccount": self._account,
            "reference": request.reference,
            "amount": amount(request.amount),
            "shopperReference": request.buyer_id,
            "shopperInteraction": "ContAuth" if stored else "Ecommerce",
            # We say when money moves, whatever the account's own delay is.
            "additionalData": {"manualCapture": "true"},
        }

    def _modify(
        self, send: Callable[..., Any], request: Capture | Cancel | Refund, money: Money | None
    ) -> Answer:
        body: dict[str, Any] = {"merchantAccount": self._account, "reference": request.reference}
        if money is not None:
            body["amount"] = amount(money)
        message = self._send(send, request.key, body, paymentPspReference=request.psp_reference)
        if message.get("status") != "received":
            return Unanswered("it answered without a status")
        return Accepted(str(message["pspReference"]))

    @staticmethod
    def _send(
        send: Callable[..., Any], key: str, body: dict[str, Any], **path: str
    ) -> dict[str, Any]:
        message: Any = send(request=body, idempotency_key=key, **path).message
        if not isinstance(message, dict):
            raise TypeError
        return message


def amount(money: Money) -> dict[str, Any]:
    return {"currency": money.currency, "value": money.value}


def outcome(message: Mapping[str, Any]) -> Answer:
    """What an answer to a payment, or to its details, means."""
    result = str(message.get("resultCode", ""))
    psp = str(message.get("pspReference", ""))
    if result == "Authorised" and psp:
        return Authorised(psp)
    if result in REFUSED_RESULTS:
        return Refused(harmless(str(message.get("refusalReason") or result)), psp)
    if isinstance(action := message.get("action"), dict):
        return ActionRequired(action)
    if result in PENDING_RESULTS:
        return Pending(psp)
    return Unanswered("it answered with a result we do not know")


def refused_or_unknown(error: AdyenAPIResponseError, request: PaymentRequest) -> Answer:
    """An error is a no only where the provider says that it has understood, and done nothing."""
    status, code = int(error.status_code or 0), str(error.error_code or "")
    no = status in INVALID and code != IN_FLIGHT
    if status in NOT_ALLOWED:
        log.error("adyen.not_allowed", status=status, code=code)
        # A payment may be refused for that; what has to be done is tried until it is allowed.
        no = isinstance(request, Authorise | SubmitDetails)
    if no:
        # The library hands over the whole answer as its message, where it could be read.
        said = error.message
        words = said.get("message", "") if isinstance(said, Mapping) else said
        return Refused(harmless(f"{words} ({code})"), str(error.psp or ""))
    return Unanswered(f"status {status}, error {code}")


def harmless(text: str) -> str:
    """Words of the provider that may be stored and shown."""
    return "Refused" if holds_card_number(text) else text[:REASON_LENGTH_MAX]
