"""Signs notifications, and delivers them until they are accepted, however long that takes."""

import asyncio
import contextlib
import http.client
import queue
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from Adyen import util

from infra.servers.adyen_stand_in.faults import Switchboard
from infra.servers.adyen_stand_in.ledger import Ledger, Line, Notice, Payment

RETRY_MINUTES = (2, 5, 10, 15, 30, 60, 120, 240, 480)
SENDERS = 4
TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.02
ACCEPTED = frozenset({200, 201, 202, 204})


def item(  # noqa: PLR0913
    payment: Payment,
    account: str,
    code: str,
    *,
    psp_reference: str,
    reference: str,
    value: int,
    success: bool = True,
    reason: str = "",
) -> dict[str, Any]:
    """One item, in the provider's words and not yet signed."""
    found: dict[str, Any] = {
        "amount": {"currency": payment.currency, "value": value},
        "eventCode": code,
        "eventDate": datetime.now(UTC).isoformat(timespec="seconds"),
        "merchantAccountCode": account,
        "merchantReference": reference,
        "paymentMethod": payment.fate.brand,
        "pspReference": psp_reference,
        "reason": reason,
        "success": "true" if success else "false",
    }
    if code == "AUTHORISATION":
        found["operations"] = ["CANCEL", "CAPTURE", "REFUND"] if success else []
    else:
        found["originalReference"] = payment.psp_reference
    return found


def signed(unsigned: Mapping[str, Any], hmac_key: str) -> dict[str, Any]:
    sign: Any = util.generate_notification_sig
    signature = sign(dict(unsigned), hmac_key).decode()
    return {**unsigned, "additionalData": {"hmacSignature": signature}}


def envelope(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"live": "false", "notificationItems": [{"NotificationRequestItem": i} for i in items]}


class Postman:
    """Delivers what the ledger has to tell, and keeps in the ledger what was delivered."""

    def __init__(
        self, ledger: Ledger, switchboard: Switchboard, url: str, hmac_key: str, retry_scale: float
    ) -> None:
        self._ledger = ledger
        self._switchboard = switchboard
        self._url = urlsplit(url)
        self._hmac_key = hmac_key
        self._retry_scale = retry_scale
        self._under_way: set[int] = set()
        self._delayed: set[int] = set()
        self._connections: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        self._news = asyncio.Event()

    def wake(self) -> None:
        self._news.set()

    def hurry(self) -> None:
        """Whatever waits for another try is due now: the way may be free again."""
        now = time.time()
        for notice in self._ledger.notices.values():
            if notice.tries:
                notice.due = min(notice.due, now)
        self.wake()

    async def run(self) -> None:
        room = asyncio.Semaphore(SENDERS)
        async with asyncio.TaskGroup() as group:
            while True:
                batch = self._next()
                if not batch:
                    self._news.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._news.wait()
                    continue
                await room.acquire()
                task = group.create_task(self._deliver(batch))
                task.add_done_callback(lambda _: room.release())

    def _next(self) -> list[Notice]:
        how = self._switchboard.faults.notifications
        if how.hold or not self._url.netloc:
            return []
        now = time.time()
        due = [n for n in self._ledger.notices.values() if n.number not in self._under_way]
        due = [n for n in due if n.due <= now and not self._put_off(n, how.delay)]
        if len(due) > 1 and self._switchboard.chance.random() < how.reorder:
            self._switchboard.chance.shuffle(due)
        batch = due[: max(1, how.per_envelope)]
        self._under_way.update(notice.number for notice in batch)
        return batch

    def _put_off(self, notice: Notice, delay: tuple[float, float]) -> bool:
        """Delay a notice once, when it first comes up."""
        if not delay[1] or notice.tries or notice.number in self._delayed:
            return False
        self._delayed.add(notice.number)
        notice.due = time.time() + self._switchboard.chance.uniform(*delay)
        return True

    async def _deliver(self, batch: list[Notice]) -> None:
        how, chance = self._switchboard.faults.notifications, self._switchboard.chance
        items = [signed(notice.item, self._hmac_key) for notice in batch]
        if chance.random() < how.forge:
            # Somebody else sends it first, with a signature of their own.
            forged = [signed(i | {"success": "true"}, "00" * 32) for i in items]
            await asyncio.to_thread(self._post, msgspec.json.encode(envelope(forged)))
        body = msgspec.json.encode(envelope(items))
        accepted = False
        for _ in range(2 if chance.random() < how.duplicate else 1):
            if chance.random() >= how.lose:
                accepted = await asyncio.to_thread(self._post, body) or accepted
        numbers = [notice.number for notice in batch]
        if accepted:
            self._ledger.record(Line(delivered=numbers))
        else:
            self._put_back(batch)
        self._under_way.difference_update(numbers)

    def _put_back(self, batch: list[Notice]) -> None:
        for notice in batch:
            minutes = RETRY_MINUTES[min(notice.tries, len(RETRY_MINUTES) - 1)]
            notice.tries += 1
            notice.due = time.time() + minutes * 60 * self._retry_scale
        self._ledger.record(Line(notices=batch))

    def _post(self, body: bytes) -> bool:
        """Whether it was accepted."""
        try:
            connection = self._connections.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection(self._url.netloc, timeout=TIMEOUT_SECONDS)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", self._url.path, body, headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return False
        self._connections.put(connection)
        return answer.status in ACCEPTED
