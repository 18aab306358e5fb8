"""The stand-in speaks as Adyen does: its answers and notifications against Adyen's own schemas."""

import re
import signal
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from Adyen import util

from tests.contract.provider import (
    ACCOUNT,
    HMAC_KEY,
    REFUSE,
    Receiver,
    StandIn,
    card,
    payment,
    receiving,
    start_stand_in,
    wait_until,
)

SCHEMAS = {
    name: msgspec.json.decode((Path(__file__).parent / "adyen" / f"{name}.json").read_bytes())
    for name in ("checkout", "webhooks")
}
ENVELOPES = {
    "AUTHORISATION": "AuthorisationNotificationRequest",
    "CAPTURE": "CaptureNotificationRequest",
    "CANCELLATION": "CancellationNotificationRequest",
    "REFUND": "RefundNotificationRequest",
    "CAPTURE_FAILED": "RefundCaptureFailedNotificationRequest",
    "REFUND_FAILED": "RefundCaptureFailedNotificationRequest",
}


def valid(document: Any, name: str, source: str = "checkout") -> None:
    schema = {"$ref": f"#/components/schemas/{name}", **SCHEMAS[source]}
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandIn, Receiver]]:
    with receiving() as receiver:
        stand_in = start_stand_in(tmp_path_factory.mktemp("adyen"), receiver.url)
        yield stand_in, receiver
        stand_in.server.stop()


@pytest.fixture
def stand_in(shared: tuple[StandIn, Receiver]) -> StandIn:
    shared[0].switch()
    return shared[0]


@pytest.fixture
def receiver(shared: tuple[StandIn, Receiver], stand_in: StandIn) -> Receiver:
    wait_until(lambda: stand_in.books()["notificationsWaiting"] == 0)
    shared[1].envelopes.clear()
    return shared[1]


def paid(stand_in: StandIn, reference: str, name: str = "Ann") -> str:
    status, said = stand_in.ask("/v72/payments", payment(reference, card(name=name)))
    assert (status, said["resultCode"]) == (200, "Authorised")
    return str(said["pspReference"])


def moved(stand_in: StandIn, psp: str, what: str, value: int = 2500) -> tuple[int, Any]:
    body: dict[str, Any] = {"merchantAccount": ACCOUNT, "reference": f"{what}-1"}
    if what != "cancels":
        body["amount"] = {"currency": "EUR", "value": value}
    return stand_in.ask(f"/v72/payments/{psp}/{what}", body)


@pytest.mark.parametrize("number", ["4111111111111111", "5555555555554444"])
def test_a_card_is_authorised(stand_in: StandIn, receiver: Receiver, number: str) -> None:
    asked = payment(f"ok-{number}", card(number))
    valid(asked, "PaymentRequest")
    status, said = stand_in.ask("/v72/payments", asked)
    assert status == 200
    valid(said, "PaymentResponse")
    assert said["resultCode"] == "Authorised"
    assert re.fullmatch(r"[A-Z0-9]{16}", said["pspReference"])
    (item,) = receiver.wait_for(1)
    assert (item["eventCode"], item["success"]) == ("AUTHORISATION", "true")
    assert item["pspReference"] == said["pspReference"]
    assert item["merchantReference"] == asked["reference"]


@pytest.mark.parametrize(
    ("name", "result", "reason"),
    [
        ("DECLINED", "Refused", "Refused"),
        ("CARD_EXPIRED", "Refused", "Expired Card"),
        ("NOT_ENOUGH_BALANCE", "Refused", "Not enough balance"),
        ("ACQUIRER_FRAUD", "Refused", "FRAUD"),
        ("ISSUER_UNAVAILABLE", "Refused", "Issuer Unavailable"),
        ("ERROR", "Error", "Acquirer Error"),
    ],
)
def test_a_name_makes_a_payment_fail(
    stand_in: StandIn, receiver: Receiver, name: str, result: str, reason: str
) -> None:
    status, said = stand_in.ask("/v72/payments", payment(f"no-{name}", card(name=name)))
    valid(said, "PaymentResponse")
    assert (status, said["resultCode"], said["refusalReason"]) == (200, result, reason)
    assert [item["success"] for item in receiver.wait_for(1)] == ["false"]


def test_a_pending_payment_is_decided_later(stand_in: StandIn, receiver: Receiver) -> None:
    _, said = stand_in.ask("/v72/payments", payment("later", card(name="PENDING")))
    valid(said, "PaymentResponse")
    assert said["resultCode"] == "Pending"
    assert receiver.items() == []
    stand_in.ask(f"/admin/payments/{said['pspReference']}/authorise", b"")
    assert [item["success"] for item in receiver.wait_for(1)] == ["true"]


@pytest.mark.parametrize(("word", "result"), [("approved", "Authorised"), ("refused", "Refused")])
def test_a_redirect_comes_back_with_a_result(
    stand_in: StandIn, receiver: Receiver, word: str, result: str
) -> None:
    _, said = stand_in.ask("/v72/payments", payment(f"3ds-{word}", card("4212345678901237")))
    valid(said, "PaymentResponse")
    assert said["resultCode"] == "RedirectShopper"
    assert receiver.items() == []
    bank = said["action"]["url"].partition(stand_in.url)[2]
    back = unescape(stand_in.page(f"/v72{bank}"))
    token = re.findall(rf"back\?x=1&redirectResult=([A-Z0-9]+)\.{word}", back)[0]
    asked = {"details": {"redirectResult": f"{token}.{word}"}}
    valid(asked, "PaymentDetailsRequest")
    status, said = stand_in.ask("/v72/payments/details", asked)
    valid(said, "PaymentDetailsResponse")
    assert (status, said["resultCode"]) == (200, result)


def test_a_challenge_follows_a_fingerprint(stand_in: StandIn) -> None:
    _, said = stand_in.ask("/v72/payments", payment("native", card("4917610000000000")))
    valid(said, "PaymentResponse")
    assert (said["resultCode"], said["action"]["subtype"]) == ("IdentifyShopper", "fingerprint")
    token = said["action"]["token"]
    for word, result in (("fingerprint", "ChallengeShopper"), ("approved", "Authorised")):
        asked = {"details": {"threeDSResult": f"{token}.{word}"}}
        _, said = stand_in.ask("/v72/payments/details", asked)
        valid(said, "PaymentDetailsResponse")
        assert said["resultCode"] == result


def test_money_moves_and_the_books_add_up(stand_in: StandIn, receiver: Receiver) -> None:
    before = stand_in.books()["totals"]
    psp = paid(stand_in, "moves")
    for what, name in (("captures", "Capture"), ("refunds", "Refund")):
        status, said = moved(stand_in, psp, what, 2500 if what == "captures" else 700)
        valid(said, f"Payment{name}Response")
        assert (status, said["status"]) == (201, "received")
    assert [item["eventCode"] for item in receiver.wait_for(3)].count("REFUND") == 1
    after = stand_in.books()["totals"]
    assert {name: after[name] - before[name] for name in after} == {
        "authorised": 2500,
        "captured": 2500,
        "refunded": 700,
        "held": 0,
    }


def test_a_cancel_gives_the_money_free(stand_in: StandIn, receiver: Receiver) -> None:
    psp = paid(stand_in, "cancelled")
    held = stand_in.books()["totals"]["held"]
    status, said = moved(stand_in, psp, "cancels")
    valid(said, "PaymentCancelResponse")
    assert status == 201
    assert stand_in.books()["totals"]["held"] == held - 2500
    assert "CANCELLATION true" in [f"{i['eventCode']} {i['success']}" for i in receiver.wait_for(2)]


@pytest.mark.parametrize(
    ("what", "first", "code"),
    [
        ("captures", ("cancels",), "CAPTURE false"),
        ("captures", ("captures",), "CAPTURE false"),
        ("cancels", ("captures",), "CANCELLATION false"),
        ("refunds", (), "REFUND false"),
    ],
)
def test_what_cannot_be_done_is_accepted_and_then_told(
    stand_in: StandIn, receiver: Receiver, what: str, first: tuple[str, ...], code: str
) -> None:
    psp = paid(stand_in, "cannot")
    for one in first:
        moved(stand_in, psp, one)
    assert moved(stand_in, psp, what)[0] == 201
    receiver.wait_for(2 + len(first))
    assert code in receiver.codes()


def test_a_capture_may_fail_after_it_succeeded(stand_in: StandIn, receiver: Receiver) -> None:
    captured = stand_in.books()["totals"]["captured"]
    psp = paid(stand_in, "fails-late", "CAPTURE_FAILED_ONCE")
    moved(stand_in, psp, "captures")
    receiver.wait_for(3)
    # In whatever order: the provider promises none.
    assert sorted(receiver.codes()) == [
        "AUTHORISATION true",
        "CAPTURE true",
        "CAPTURE_FAILED true",
    ]
    moved(stand_in, psp, "captures")
    assert stand_in.books()["totals"]["captured"] == captured + 2500


def test_a_key_is_answered_once(stand_in: StandIn) -> None:
    asked = payment("same")
    first = stand_in.ask("/v72/payments", asked, key="k1")
    assert stand_in.ask("/v72/payments", asked, key="k1") == first
    status, said = stand_in.ask("/v72/payments", payment("other"), key="k1")
    assert (status, said["errorCode"]) == (422, "704")


@pytest.mark.parametrize(
    ("path", "body", "key", "expected"),
    [
        ("/v72/payments", payment("x"), "wrong", (401, "000")),
        ("/v72/payments", b"{", "", (400, "702")),
        ("/v72/payments", {**payment("x"), "merchantAccount": "Other"}, "", (403, "901")),
        ("/v72/payments", {**payment("x"), "amount": {"currency": "EUR"}}, "", (422, "137")),
        (
            "/v72/payments",
            payment("x", {"type": "scheme", "number": "4111111111111111"}),
            "",
            (403, "010"),
        ),
        (
            "/v72/payments/ABC/captures",
            {"merchantAccount": ACCOUNT, "amount": {"currency": "EUR", "value": 1}},
            "",
            (422, "167"),
        ),
    ],
)
def test_errors_have_their_shape(
    stand_in: StandIn, path: str, body: Any, key: str, expected: tuple[int, str]
) -> None:
    status, said = stand_in.ask(path, body, **({"api_key": key} if key else {}))
    valid(said, "ServiceError")
    assert (status, said["errorCode"]) == expected


def test_each_item_is_signed_and_has_its_schema(stand_in: StandIn, receiver: Receiver) -> None:
    psp = paid(stand_in, "signed", "REFUND_FAILED")
    moved(stand_in, psp, "captures")
    moved(stand_in, psp, "refunds", 100)
    moved(stand_in, psp, "cancels")
    receiver.wait_for(5)
    for envelope in map(msgspec.json.decode, receiver.envelopes):
        (wrapper,) = envelope["notificationItems"]
        item = wrapper["NotificationRequestItem"]
        assert util.is_valid_hmac_notification(item, HMAC_KEY) is True  # type: ignore[no-untyped-call]
        # The schema knows neither the signature nor that an item says what may follow.
        del item["additionalData"]
        item.pop("operations", None)
        valid(envelope, ENVELOPES[item["eventCode"]], "webhooks")


def test_a_refused_notification_comes_again(stand_in: StandIn, receiver: Receiver) -> None:
    receiver.status = REFUSE
    paid(stand_in, "again")
    receiver.wait_for(2)
    receiver.status = 200
    wait_until(lambda: stand_in.books()["notificationsWaiting"] == 0)
    assert len({item["pspReference"] for item in receiver.items()}) == 1


def test_notifications_are_held_doubled_and_sent_together(
    stand_in: StandIn, receiver: Receiver
) -> None:
    stand_in.switch(notifications={"hold": True})
    for number in range(5):
        paid(stand_in, f"held-{number}")
    assert receiver.items() == []
    stand_in.switch(notifications={"duplicate": 1.0, "reorder": 1.0, "per_envelope": 3})
    receiver.wait_for(10)
    assert sorted(len(msgspec.json.decode(e)["notificationItems"]) for e in receiver.envelopes) == [
        2,
        2,
        3,
        3,
    ]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("error", 500, "905"), ("unavailable", 503, "000"), ("in_flight", 422, "704")],
)
def test_faults_are_switched_on_and_used_up(
    stand_in: StandIn, kind: str, status: int, code: str
) -> None:
    stand_in.switch(operations=[{"operation": "payments", "kind": kind, "count": 1}])
    answer, said = stand_in.ask("/v72/payments", payment("fault"))
    valid(said, "ServiceError")
    assert (answer, said["errorCode"]) == (status, code)
    assert stand_in.ask("/v72/payments", payment("fault"))[0] == 200


@pytest.mark.parametrize(("kind", "done"), [("reset_done", 1), ("reset_not_done", 0)])
def test_a_reset_connection_says_nothing_about_the_work(
    stand_in: StandIn, kind: str, done: int
) -> None:
    stand_in.switch(operations=[{"operation": "payments", "kind": kind, "count": 1}])
    with pytest.raises(ConnectionError):
        stand_in.ask("/v72/payments", payment(kind), key=kind)
    assert sum(p["reference"] == kind for p in stand_in.books()["payments"]) == done
    assert stand_in.ask("/v72/payments", payment(kind), key=kind)[0] == 200
    assert sum(p["reference"] == kind for p in stand_in.books()["payments"]) == 1


def test_books_answers_and_notifications_survive_a_kill(tmp_path: Path) -> None:
    with receiving() as receiver:
        stand_in = start_stand_in(tmp_path, receiver.url)
        stand_in.switch(notifications={"hold": True})
        first = stand_in.ask("/v72/payments", payment("kept"), key="k")
        books = stand_in.books()
        stand_in.server.kill()
        with (tmp_path / "ledger.jsonl").open("ab") as file:
            file.write(b'{"payments":[{"psp_ref')
        stand_in = start_stand_in(tmp_path, receiver.url)
        assert stand_in.ask("/v72/payments", payment("kept"), key="k") == first
        assert stand_in.books()["payments"] == books["payments"]
        assert [item["merchantReference"] for item in receiver.wait_for(1)] == ["kept"]
        stand_in.server.stop()
        assert stand_in.server.process.returncode != -signal.SIGKILL
