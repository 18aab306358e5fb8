"""The adapter over Adyen's library, against the stand-in: what each answer and silence means."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from domain.shared.money import Money
from infra.adapters.payments.adyen_payments import AdyenPayments, refused_or_unknown
from infra.adapters.payments.adyen_webhooks import AdyenNotifications
from infra.ports.payments import (
    Accepted,
    ActionRequired,
    Answer,
    Authorise,
    Authorised,
    Cancel,
    Capture,
    NotificationMalformed,
    NotificationUnsigned,
    Pending,
    Refund,
    Refused,
    SubmitDetails,
    Unanswered,
)
from infra.servers.adyen_stand_in.notifications import envelope, signed
from tests.contract.provider import (
    ACCOUNT,
    API_KEY,
    HMAC_KEY,
    StandIn,
    card,
    receiving,
    start_stand_in,
)

MONEY = Money("EUR", 2500)
CHECKOUT = "0d1kq3h8o2c7a"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with receiving() as receiver:
        started = start_stand_in(tmp_path_factory.mktemp("adyen"), receiver.url)
        yield started
        started.server.stop()


@pytest.fixture
def payments(stand_in: StandIn) -> Iterator[AdyenPayments]:
    stand_in.switch()
    adapter = connect(stand_in.url)
    yield adapter
    adapter.close()


def connect(url: str, api_key: str = API_KEY, account: str = ACCOUNT) -> AdyenPayments:
    return AdyenPayments(
        url, api_key, account, return_url="https://shop.example/", answer_seconds=0.5
    )


def authorise(key: str, method: dict[str, Any] | None = None) -> Authorise:
    secrets = {"paymentMethod": method or card()}
    return Authorise(key=key, reference=CHECKOUT, amount=MONEY, buyer_id="ann", secrets=secrets)


async def paid(payments: AdyenPayments, key: str) -> str:
    found = await payments.ask(authorise(key))
    assert isinstance(found, Authorised)
    return found.psp_reference


async def test_a_payment_is_authorised_captured_and_refunded(
    payments: AdyenPayments, stand_in: StandIn
) -> None:
    psp = await paid(payments, "a1")
    for request in (
        Capture(key="a2", reference="c", psp_reference=psp, amount=MONEY),
        Refund(key="a3", reference="r", psp_reference=psp, amount=Money("EUR", 100)),
    ):
        assert isinstance(await payments.ask(request), Accepted)
    (kept,) = [p for p in stand_in.books()["payments"] if p["psp_reference"] == psp]
    assert [m["value"] for m in kept["movements"]] == [2500, 100]


async def test_a_payment_is_cancelled(payments: AdyenPayments) -> None:
    psp = await paid(payments, "b1")
    cancel = Cancel(key="b2", reference="c", psp_reference=psp)
    assert isinstance(await payments.ask(cancel), Accepted)


async def test_a_stored_payment_method_is_charged(payments: AdyenPayments) -> None:
    stored = {"type": "scheme", "storedPaymentMethodId": "M5N7TQ4TG5PFWR50"}
    assert isinstance(await payments.ask(authorise("c1", stored)), Authorised)


async def test_the_same_key_is_the_same_payment(payments: AdyenPayments) -> None:
    found = await asyncio.gather(*(payments.ask(authorise("d1")) for _ in range(20)))
    # Those that came while the first was in flight know nothing; the others know the same.
    assert len({answer for answer in found if isinstance(answer, Authorised)}) == 1
    assert all(isinstance(answer, Authorised | Unanswered) for answer in found)


async def test_a_refusal_says_why(payments: AdyenPayments) -> None:
    found = await payments.ask(authorise("e1", card(name="NOT_ENOUGH_BALANCE")))
    assert isinstance(found, Refused)
    assert found.reason == "Not enough balance"


async def test_a_payment_that_takes_longer_is_pending(payments: AdyenPayments) -> None:
    assert isinstance(await payments.ask(authorise("f1", card(name="PENDING"))), Pending)


async def test_a_card_that_is_challenged_is_authorised_step_by_step(
    payments: AdyenPayments,
) -> None:
    found = await payments.ask(authorise("f2", card("4917610000000000")))
    assert isinstance(found, ActionRequired)
    token = found.action["token"]
    for key, word, expected in (
        ("f3", "fingerprint", ActionRequired),
        ("f4", "approved", Authorised),
    ):
        details = {"details": {"threeDSResult": f"{token}.{word}"}}
        assert isinstance(await payments.ask(SubmitDetails(key=key, secrets=details)), expected)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("error", Unanswered("status 500, error 905")),
        ("unavailable", Unanswered("status 503, error 000")),
        ("in_flight", Unanswered("status 422, error 704")),
        ("refuse", Refused("Could not find an acquirer account (905_1)")),
        ("reset_done", Unanswered("the connection was lost")),
        ("reset_not_done", Unanswered("the connection was lost")),
        ("timeout_done", Unanswered("it did not answer in time")),
        ("timeout_not_done", Unanswered("it did not answer in time")),
    ],
)
async def test_silence_and_breakdown_are_unknown_and_only_a_no_is_a_no(
    payments: AdyenPayments, stand_in: StandIn, kind: str, expected: Answer
) -> None:
    fault = {"operation": "payments", "kind": kind, "count": 1, "seconds": 1.0}
    stand_in.switch(operations=[fault])
    assert await payments.ask(authorise(f"g-{kind}")) == expected
    if isinstance(expected, Unanswered):
        await asyncio.sleep(1.0 if kind == "timeout_done" else 0)
        assert isinstance(await payments.ask(authorise(f"g-{kind}")), Authorised)


async def test_nobody_listening_is_unknown() -> None:
    away = connect("http://127.0.0.1:1/v72")
    assert await away.ask(authorise("h1")) == Unanswered("there is no connection")
    away.close()


async def test_the_proxy_that_the_environment_names_is_asked(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_address = urlsplit(stand_in.url).netloc
    monkeypatch.setenv("http_proxy", f"http://{stand_in_address}")
    monkeypatch.setenv("no_proxy", "")
    through = connect("http://provider.invalid/v72")
    assert isinstance(await through.ask(authorise("p1")), Authorised)
    monkeypatch.setenv("no_proxy", "provider.invalid")
    past = connect("http://provider.invalid/v72")
    assert await past.ask(authorise("p2")) == Unanswered("there is no connection")
    for payments in (through, past):
        payments.close()


@pytest.mark.parametrize(("api_key", "account"), [("wrong", ACCOUNT), (API_KEY, "Other")])
async def test_a_wrong_account_refuses_payments_but_gives_up_no_duty(
    stand_in: StandIn, api_key: str, account: str
) -> None:
    wrong = connect(stand_in.url, api_key, account)
    assert isinstance(await wrong.ask(authorise("i1")), Refused)
    cancel = Cancel(key="i2", reference="c", psp_reference="P")
    assert isinstance(await wrong.ask(cancel), Unanswered)
    wrong.close()


async def test_what_was_never_paid_cannot_be_captured(payments: AdyenPayments) -> None:
    capture = Capture(key="j1", reference="c", psp_reference="NEVER", amount=MONEY)
    assert isinstance(await payments.ask(capture), Refused)


async def test_no_card_data_reaches_a_log_or_an_answer(
    payments: AdyenPayments, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stand_in.switch(operations=[{"operation": "any", "kind": "error", "count": 1}])
    found = [await payments.ask(authorise("k1")), await payments.ask(authorise("k2"))]
    assert "4111111111111111" not in caplog.text + repr(found)


def test_a_live_address_is_left_as_it_is() -> None:
    base = "https://1797a841fbb37ca7-Plaza-checkout-live.adyenpayments.com/checkout/v72"
    live = connect(base)
    client: Any = live._payments.client
    assert client._determine_api_url(client.platform, f"{base}/payments") == f"{base}/payments"
    live.close()


def test_an_error_is_read_by_its_status_and_code() -> None:
    class Error(Exception):
        status_code, error_code, message, psp = 422, "137", "Card 4111 1111 1111 1111 is bad", None

    assert refused_or_unknown(Error(), authorise("x")) == Refused("Refused")  # type: ignore[arg-type]


# Notifications.

ITEM = {
    "amount": {"currency": "EUR", "value": 2500},
    "eventCode": "CAPTURE",
    "eventDate": "2026-01-01T12:00:00+00:00",
    "merchantAccountCode": ACCOUNT,
    "merchantReference": f"{CHECKOUT}-capture-1",
    "originalReference": "PSP1",
    "paymentMethod": "visa",
    "pspReference": "CAP1",
    "reason": "",
    "success": "true",
}
notifications = AdyenNotifications(HMAC_KEY)


def sent(*items: dict[str, Any]) -> bytes:
    return msgspec.json.encode(envelope(list(items)))


def test_a_signed_item_is_read() -> None:
    (found,) = notifications.read(sent(signed(ITEM, HMAC_KEY)))
    assert (found.checkout_id, found.event_code, found.success) == (CHECKOUT, "CAPTURE", True)
    assert (found.psp_reference, found.original_reference) == ("CAP1", "PSP1")
    assert found.amount == MONEY


@pytest.mark.parametrize(
    "bad",
    [
        ITEM,
        {**ITEM, "additionalData": {}},
        {**ITEM, "additionalData": {"hmacSignature": ""}},
        {**ITEM, "additionalData": {"hmacSignature": 7}},
        {**ITEM, "additionalData": None},
        signed(ITEM, "00" * 32),
        {**signed(ITEM, HMAC_KEY), "success": "false"},
        {**signed(ITEM, HMAC_KEY), "amount": {"currency": "EUR", "value": 1}},
        {**signed(ITEM, HMAC_KEY), "amount": None},
    ],
)
def test_one_bad_signature_refuses_the_envelope(bad: dict[str, Any]) -> None:
    good = signed(ITEM, HMAC_KEY)
    with pytest.raises(NotificationUnsigned):
        notifications.read(sent(good, bad))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"notificationItems":[]}', b'{"notificationItems":[{}]}', b"\xff"],
)
def test_what_is_no_envelope_is_malformed(body: bytes) -> None:
    with pytest.raises(NotificationMalformed):
        notifications.read(body)


def test_unknown_codes_and_references_are_read_all_the_same() -> None:
    odd = {**ITEM, "eventCode": "REPORT_AVAILABLE", "merchantReference": "somebody else's"}
    (found,) = notifications.read(sent(signed(odd, HMAC_KEY)))
    assert (found.checkout_id, found.event_code) == ("", "REPORT_AVAILABLE")


def test_the_reason_of_a_success_is_not_kept() -> None:
    told = {**ITEM, "reason": "874574:1935:11/2012"}
    (found,) = notifications.read(sent(signed(told, HMAC_KEY)))
    assert found.reason == ""
