"""The HTTP side: the parts of Checkout v72 that Plaza uses, and switches and books for tests."""

import asyncio
import hashlib
import hmac
import html
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from infra.servers.adyen_stand_in.cards import CardDataInClear, fate_of
from infra.servers.adyen_stand_in.faults import DONE, Fault, Faults, Operation, Switchboard
from infra.servers.adyen_stand_in.ledger import (
    Answer,
    Ledger,
    Line,
    Movement,
    Notice,
    Payment,
    new_reference,
)
from infra.servers.adyen_stand_in.notifications import Postman, item

KEY_LENGTH_MAX = 64
REFERENCE_LENGTH_MAX = 80
REQUIRED = ("amount", "merchantAccount", "paymentMethod", "reference", "returnUrl")
TRANSPORT = "adyen_stand_in.transport"
LATE_SECONDS = 0.3
"""How long after a success its reversal is told."""

Body = dict[str, Any]


class Refusal(Exception):
    """An error answer of the API."""

    def __init__(self, status: int, code: str, message: str, kind: str = "validation") -> None:
        super().__init__(message)
        self.status = status
        self.body = {"status": status, "errorCode": code, "message": message, "errorType": kind}


class Merchant(Struct, frozen=True):
    """Who may ask; empty where it does not matter."""

    account: str
    api_key: str


class Provider:
    """What each operation does to the books, as lines that are yet to be written."""

    def __init__(self, ledger: Ledger, merchant: Merchant, base_url: str) -> None:
        self._ledger = ledger
        self._account = merchant.account
        self._base_url = base_url

    def pay(self, body: Body, _psp: str) -> tuple[int, Body, Line]:
        check_payment(body)
        try:
            fate = fate_of(body["paymentMethod"])
        except CardDataInClear:
            raise Refusal(403, "010", "Not allowed to send raw card data", "security") from None
        amount = body["amount"]
        payment = Payment(
            psp_reference=new_reference(),
            reference=body["reference"],
            currency=amount["currency"],
            value=amount["value"],
            fate=fate,
            state="pending",
            token=new_reference(),
        )
        answer: Body
        notices: list[Notice] = []
        match fate.course:
            case "authorise":
                answer, notices = self._authorise(payment)
            case "refuse":
                answer, notices = self._refuse(payment, "Refused")
            case "error":
                answer, notices = self._refuse(payment, "Error")
            case "pending":
                answer, notices = self._pend(payment)
            case "redirect":
                answer = self._redirect(payment, body["returnUrl"])
            case _:
                answer = self._challenge(payment, "IdentifyShopper", "fingerprint")
        return 200, answer, Line(payments=[payment], notices=notices)

    def details(self, body: Body, _psp: str) -> tuple[int, Body, Line]:
        found = body.get("details")
        if not isinstance(found, dict):
            raise Refusal(422, "130", "Required field 'details' is not provided.")
        given = str(found.get("redirectResult") or found.get("threeDSResult") or "")
        token, _, word = given.partition(".")
        payment = self._payment(self._ledger.by_token.get(token, ""), code="101")
        if payment.state != "awaiting":
            raise Refusal(422, "101", "Invalid card number")
        notices: list[Notice] = []
        if word == "fingerprint":
            answer = self._challenge(payment, "ChallengeShopper", "challenge")
        elif word == "refused":
            answer, notices = self._refuse(payment, "Refused", "3D Not Authenticated", "11")
        else:
            answer, notices = self._authorise(payment)
        return 200, answer, Line(payments=[payment], notices=notices)

    def capture(self, body: Body, psp: str) -> tuple[int, Body, Line]:
        payment = self._payment(psp)
        value = amount_of(body, payment)
        later, tries = payment.fate.later, sum(m.kind == "capture" for m in payment.movements)
        why = ""
        if payment.state != "authorised":
            why = "Transaction is not authorised"
        elif value > payment.value - payment.moved("capture"):
            why = "Insufficient balance on payment"
        elif later == "capture_refused":
            why = "Capture refused"
        reverse = later == "capture_failed" or (later == "capture_failed_once" and not tries)
        return self._move("capture", "CAPTURE", payment, body, value, why, reverse=reverse)

    def cancel(self, body: Body, psp: str) -> tuple[int, Body, Line]:
        payment = self._payment(psp)
        why = ""
        if payment.moved("capture"):
            why = "Transaction has been captured"
        elif payment.state != "authorised":
            why = "Transaction is not authorised"
        elif payment.fate.later == "cancel_refused":
            why = "Cancel refused"
        return self._move("cancel", "CANCELLATION", payment, body, payment.value, why)

    def refund(self, body: Body, psp: str) -> tuple[int, Body, Line]:
        payment = self._payment(psp)
        value = amount_of(body, payment)
        why = ""
        if value > payment.moved("capture") - payment.moved("refund"):
            why = "Insufficient balance on payment"
        elif payment.fate.later == "refund_refused":
            why = "Refund refused"
        reverse = payment.fate.later == "refund_failed"
        return self._move("refund", "REFUND", payment, body, value, why, reverse=reverse)

    def decide_pending(self, psp: str, *, success: bool) -> Line:
        """The outcome of a payment that was left pending, or of one the buyer ended elsewhere."""
        payment = self._payment(psp)
        _, notices = self._authorise(payment) if success else self._refuse(payment, "Refused")
        return Line(payments=[payment], notices=notices)

    def take_back(self, psp: str, kind: str) -> Line:
        """The newest capture or refund of a payment fails after it had succeeded."""
        payment = self._payment(psp)
        for movement in reversed(payment.movements):
            if movement.kind == kind and not movement.failed:
                return Line(payments=[payment], notices=[self._reverse(payment, movement, 0.0)])
        raise Refusal(422, "167", f"There is no {kind} to take back")

    def _payment(self, psp: str, code: str = "167") -> Payment:
        payment = self._ledger.payments.get(psp)
        if payment is None:
            raise Refusal(422, code, "Original pspReference required for this operation")
        return deepcopy(payment)

    def _authorise(self, payment: Payment) -> tuple[Body, list[Notice]]:
        payment.state = "authorised"
        return self._result(payment, "Authorised"), [self._told(payment, success=True)]

    def _refuse(
        self, payment: Payment, result: str, reason: str = "", code: str = ""
    ) -> tuple[Body, list[Notice]]:
        payment.state = "refused"
        known = payment.fate.refusal
        reason, code = reason or known[0] or "Refused", code or known[1] or "2"
        answer = self._result(payment, result)
        answer |= {"refusalReason": reason, "refusalReasonCode": code}
        return answer, [self._told(payment, success=False, reason=reason)]

    def _pend(self, payment: Payment) -> tuple[Body, list[Notice]]:
        answer = self._result(payment, "Pending")
        if payment.fate.later != "pending_refused":
            return answer, []
        payment.state = "refused"
        return answer, [self._told(payment, success=False, reason="Refused")]

    def _redirect(self, payment: Payment, return_url: str) -> Body:
        payment.state = "awaiting"
        back = quote(return_url, safe="")
        action = {
            "type": "redirect",
            "paymentMethodType": "scheme",
            "method": "GET",
            "url": f"{self._base_url}/redirect/{payment.token}?returnUrl={back}",
        }
        return self._result(payment, "RedirectShopper") | {"action": action}

    def _challenge(self, payment: Payment, result: str, subtype: str) -> Body:
        payment.state = "awaiting"
        action = {
            "type": "threeDS2",
            "subtype": subtype,
            "paymentMethodType": "scheme",
            "token": payment.token,
            "authorisationToken": new_reference(),
            "paymentData": new_reference(),
        }
        return self._result(payment, result) | {"action": action}

    @staticmethod
    def _result(payment: Payment, result: str) -> Body:
        return {
            "pspReference": payment.psp_reference,
            "resultCode": result,
            "merchantReference": payment.reference,
            "amount": {"currency": payment.currency, "value": payment.value},
        }

    def _told(self, payment: Payment, *, success: bool, reason: str = "") -> Notice:
        return self._ledger.notice(
            item(
                payment,
                self._account,
                "AUTHORISATION",
                psp_reference=payment.psp_reference,
                reference=payment.reference,
                value=payment.value,
                success=success,
                reason=reason,
            )
        )

    def _move(  # noqa: PLR0913, PLR0917
        self,
        kind: Any,
        code: str,
        payment: Payment,
        body: Body,
        value: int,
        why_not: str,
        *,
        reverse: bool = False,
    ) -> tuple[int, Body, Line]:
        """Accept a capture, cancel or refund. Whether it succeeds is told by notification."""
        movement = Movement(
            kind=kind,
            psp_reference=new_reference(),
            reference=str(body.get("reference", payment.reference)),
            value=value,
            failed=bool(why_not),
        )
        payment.movements.append(movement)
        if kind == "cancel" and not why_not:
            payment.state = "cancelled"
        notices = [self._moved(payment, movement, code, why_not)]
        if reverse and not why_not:
            notices.append(self._reverse(payment, movement, LATE_SECONDS))
        answer: Body = {
            "merchantAccount": self._account,
            "paymentPspReference": payment.psp_reference,
            "pspReference": movement.psp_reference,
            "reference": movement.reference,
            "status": "received",
        }
        if kind != "cancel":
            answer["amount"] = {"currency": payment.currency, "value": value}
        return 201, answer, Line(payments=[payment], notices=notices)

    def _moved(
        self, payment: Payment, movement: Movement, code: str, why_not: str, after: float = 0.0
    ) -> Notice:
        return self._ledger.notice(
            item(
                payment,
                self._account,
                code,
                psp_reference=movement.psp_reference,
                reference=movement.reference,
                value=movement.value,
                success=not why_not,
                reason=why_not,
            ),
            after,
        )

    def _reverse(self, payment: Payment, movement: Movement, after: float) -> Notice:
        """Take a success back. Its notification says `success`: that it failed is what is true."""
        movement.failed = True
        code = "CAPTURE_FAILED" if movement.kind == "capture" else "REFUND_FAILED"
        notice = self._moved(payment, movement, code, "", after)
        notice.item["reason"] = "Rejected by the card scheme"
        return notice


def check_payment(body: Body) -> None:
    for name in REQUIRED:
        if name not in body:
            raise Refusal(422, "130", f"Required field '{name}' is not provided.")
    amount = body["amount"]
    currency = amount.get("currency") if isinstance(amount, dict) else None
    if not isinstance(currency, str) or len(currency) != 3:
        raise Refusal(422, "138", "Unsupported currency specified")
    if not isinstance(amount.get("value"), int) or amount["value"] < 0:
        raise Refusal(422, "137", "Invalid amount specified")
    if not isinstance(body["paymentMethod"], dict) or "type" not in body["paymentMethod"]:
        raise Refusal(422, "14_006", "Required object 'paymentMethod' is not provided.")
    if not 0 < len(str(body["reference"])) <= REFERENCE_LENGTH_MAX:
        raise Refusal(422, "130", "Required field 'reference' is not provided.")


def amount_of(body: Body, payment: Payment) -> int:
    amount = body.get("amount")
    if not isinstance(amount, dict) or not isinstance(amount.get("value"), int):
        raise Refusal(422, "137", "Invalid amount specified")
    if amount["value"] <= 0 or amount.get("currency") != payment.currency:
        raise Refusal(422, "137", "Invalid amount specified")
    return int(amount["value"])


Operate = Callable[[Body, str], tuple[int, Body, Line]]


class Desk:
    """Takes requests in: who asks, under which key, and which fault is switched on."""

    def __init__(
        self, ledger: Ledger, merchant: Merchant, switchboard: Switchboard, postman: Postman
    ) -> None:
        self._ledger = ledger
        self._merchant = merchant
        self._switchboard = switchboard
        self._postman = postman
        self._in_flight: set[str] = set()

    def endpoint(
        self, operation: Operation, operate: Operate
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                return await self._handle(operation, operate, request)
            except Refusal as refusal:
                return answer(refusal.status, refusal.body)

        return handle

    async def _handle(self, operation: Operation, operate: Operate, request: Request) -> Response:
        body = await self._authorised(operation, request)
        psp = request.path_params.get("psp", "")
        key = request.headers.get("idempotency-key", "")
        if len(key) > KEY_LENGTH_MAX:
            raise Refusal(422, "702", "The idempotency key is too long")
        digest = hashlib.sha256(f"{request.url.path}\n".encode() + await request.body()).hexdigest()
        fault = self._switchboard.fault(operation, self._reference(body, psp))
        if fault is not None and fault.kind not in DONE:
            return await fail(request, fault)
        if key and key in self._in_flight:
            return in_flight()
        try:
            self._in_flight.add(key)
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
            status, said = self._once(key, digest, lambda: operate(body, psp))
            if fault is not None and fault.kind != "slow":
                return await fail(request, fault)
            return answer(status, said)
        finally:
            self._in_flight.discard(key)

    def _once(
        self, key: str, digest: str, operate: Callable[[], tuple[int, Body, Line]]
    ) -> tuple[int, Body]:
        known = self._ledger.answers.get(key)
        if key and known is not None:
            if known.digest != digest:
                raise Refusal(422, "704", "The idempotency key was used for another request")
            return known.status, known.body
        try:
            status, said, line = operate()
        except Refusal as refusal:
            status, said, line = refusal.status, refusal.body, Line()
        if key:
            line.key, line.answer = key, Answer(digest=digest, status=status, body=said)
        self._ledger.record(line)
        self._postman.wake()
        return status, said

    async def _authorised(self, operation: Operation, request: Request) -> Body:
        given = request.headers.get("x-api-key", "")
        if not hmac.compare_digest(given.encode(), self._merchant.api_key.encode()):
            raise Refusal(401, "000", "HTTP Status Response - Unauthorized", "security")
        try:
            body = msgspec.json.decode(await request.body())
        except msgspec.DecodeError:
            body = None
        if not isinstance(body, dict):
            raise Refusal(400, "702", "Problem reading the request")
        if operation != "details" and body.get("merchantAccount") != self._merchant.account:
            raise Refusal(403, "901", "Invalid Merchant Account", "security")
        return body

    def _reference(self, body: Body, psp: str) -> str:
        payment = self._ledger.payments.get(psp)
        return payment.reference if payment else str(body.get("reference", ""))


async def fail(request: Request, fault: Fault) -> Response:
    match fault.kind:
        case "error":
            return answer(500, error(500, "905", "Payment details are not supported", "internal"))
        case "refuse":
            return answer(422, error(422, "905_1", "Could not find an acquirer account"))
        case "unavailable":
            return answer(503, error(503, "000", "Service Unavailable", "internal"))
        case "in_flight":
            return in_flight()
        case "timeout_done" | "timeout_not_done":
            await asyncio.sleep(fault.seconds)
    transport = request.scope.get(TRANSPORT)
    if transport is not None:
        transport.abort()
    return Response(status_code=500)


def in_flight() -> Response:
    said = error(422, "704", "The previous request with this key has not ended")
    return answer(422, said, {"transient-error": "true"})


def error(status: int, code: str, message: str, kind: str = "validation") -> Body:
    return {"status": status, "errorCode": code, "message": message, "errorType": kind}


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    encoded = msgspec.json.encode(body)
    return Response(encoded, status, headers=headers, media_type="application/json")


def build(
    ledger: Ledger,
    merchant: Merchant,
    switchboard: Switchboard,
    postman: Postman,
    base_url: str,
) -> Starlette:
    provider = Provider(ledger, merchant, base_url)
    desk = Desk(ledger, merchant, switchboard, postman)
    operations: list[tuple[str, Operation, Operate]] = [
        ("/v72/payments", "payments", provider.pay),
        ("/v72/payments/details", "details", provider.details),
        ("/v72/payments/{psp}/captures", "captures", provider.capture),
        ("/v72/payments/{psp}/cancels", "cancels", provider.cancel),
        ("/v72/payments/{psp}/refunds", "refunds", provider.refund),
    ]
    return Starlette(
        routes=[
            *(
                Route(path, desk.endpoint(operation, operate), methods=["POST"])
                for path, operation, operate in operations
            ),
            *admin(ledger, provider, switchboard, postman),
        ]
    )


def admin(
    ledger: Ledger, provider: Provider, switchboard: Switchboard, postman: Postman
) -> list[Route]:
    """For tests and for people: the books, the switches, and the buyer's bank."""

    async def books(_request: Request) -> Response:
        payments = [msgspec.to_builtins(payment) for payment in ledger.payments.values()]
        waiting = len(ledger.notices)
        said = {"totals": ledger.totals(), "payments": payments, "notificationsWaiting": waiting}
        return answer(200, said)

    async def switch(request: Request) -> Response:
        try:
            switchboard.faults = msgspec.json.decode(await request.body(), type=Faults)
        except msgspec.DecodeError as problem:
            return answer(422, error(422, "702", str(problem)))
        postman.hurry()
        return Response(status_code=204)

    async def change(request: Request) -> Response:
        psp, what = request.path_params["psp"], request.path_params["what"]
        try:
            match what:
                case "authorise" | "refuse":
                    line = provider.decide_pending(psp, success=what == "authorise")
                case "fail-capture" | "fail-refund":
                    line = provider.take_back(psp, what.removeprefix("fail-"))
                case _:
                    return Response(status_code=404)
        except Refusal as refusal:
            return answer(refusal.status, refusal.body)
        ledger.record(line)
        postman.wake()
        return Response(status_code=204)

    async def bank(request: Request) -> Response:
        """The page that a buyer is redirected to: yes and no, each a link back to the shop."""
        token = request.path_params["token"]
        back = request.query_params.get("returnUrl", "")
        mark = "&" if "?" in back else "?"
        links = "".join(
            f'<p><a href="{html.escape(f"{back}{mark}redirectResult={token}.{word}")}">{text}</a>'
            for word, text in (("approved", "Approve the payment"), ("refused", "Refuse it"))
        )
        return HTMLResponse(f"<!doctype html><title>Test bank</title><h1>Test bank</h1>{links}")

    async def health(_request: Request) -> Response:
        return Response(status_code=200)

    return [
        Route("/admin/ledger", books),
        Route("/admin/faults", switch, methods=["PUT"]),
        Route("/admin/payments/{psp}/{what}", change, methods=["POST"]),
        Route("/v72/redirect/{token}", bank),
        Route("/health", health),
    ]
