"""The processes that buy and sell, in this process, on a log and a provider that fail as told.

The provider is the stand-in, a process of its own, behind Adyen's library; the log is in memory. A
crash leaves nothing of the processes but what is in the log, the vault and the provider's books.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from domain.commerce.cart.commands import CheckOutCart, PutCartItem
from domain.commerce.cart.events import CartItem
from domain.commerce.checkout.commands import StartCheckout
from domain.commerce.checkout.decider import PAYMENT_SECRETS, checkout_stream
from domain.commerce.checkout.events import CheckoutOrder, ItemsReserved, OrdersCreated
from domain.commerce.checkout.state import Checkout
from domain.commerce.order.decider import order_stream
from domain.commerce.order.events import OrderLine
from domain.commerce.payment.commands import RecordNotification
from domain.commerce.product.commands import ListProduct
from domain.commerce.stock.commands import ReceiveStock
from domain.commerce.stock.decider import STOCK, stock_stream
from domain.deciders import DECIDERS
from domain.shared.identifiers import make_id
from domain.shared.message import Command
from domain.shared.money import Money
from infra.adapters.log.memory_event_log import MemoryEventLog
from infra.adapters.payments.adyen_payments import AdyenPayments
from infra.adapters.payments.adyen_webhooks import AdyenNotifications
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.ports.log import LogUnavailable, Recorded, StoredAnswer
from infra.ports.payments import (
    Answer,
    Authorise,
    Capture,
    Details,
    NotificationUnsigned,
    PaymentRequest,
)
from infra.runtime.commands.execute import Executor
from infra.runtime.commands.single_writer import SingleWriter
from infra.runtime.reacting.react import Process
from infra.runtime.reacting.sagas import Sagas
from processes import checkout, returns
from tests.contract.provider import (
    ACCOUNT,
    API_KEY,
    HMAC_KEY,
    Receiver,
    StandIn,
    card,
    receiving,
    start_stand_in,
)

WAIT_SECONDS = 30.0
ANSWER_SECONDS = 0.3
BUYER = "0000000000buy"
SELLER = "0000000000sel"
SHOP = "0000000000shp"
PRICE = Money("EUR", 1000)
UNITS = 1_000
FINAL = {"confirmed", "rejected", "cancelled"}
_ids = itertools.count(1)


def new_id() -> str:
    return make_id(int(datetime.now(UTC).timestamp() * 1000), next(_ids))


@dataclass
class Trap:
    """What goes wrong, once, where `here` says that it is the place."""

    kind: str
    here: Callable[[Any], bool]
    seconds: float = 0.0
    sprung: bool = False
    crashed: asyncio.Event = field(default_factory=asyncio.Event)

    async def crash(self) -> None:
        """The process is gone at this very point: nothing goes on from here."""
        self.crashed.set()
        await asyncio.Event().wait()

    def springs(self, thing: Any) -> bool:
        if self.sprung or not self.here(thing):
            return False
        self.sprung = True
        return True


NO_TRAP = Trap("none", lambda _: False)


class FailingLog(MemoryEventLog):
    """`LogUnavailable` before or after the write, for a while, or a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.trap = NO_TRAP
        self.away = False

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        await asyncio.sleep(0)
        if self.away:
            raise LogUnavailable("away")
        if not self.trap.springs(events):
            return await super().append(events, answer)
        match self.trap.kind:
            case "crash before the append" | "crash before the call":
                await self.trap.crash()
            case "crash after the call":
                await super().append(events, answer)
                await self.trap.crash()
            case "time-out with the work done":
                await super().append(events, answer)
            case "provider away":
                self.away = True
                asyncio.get_running_loop().call_later(self.trap.seconds, self._return)
        raise LogUnavailable(self.trap.kind)

    def _return(self) -> None:
        self.away = False


class FailingPayments:
    """Crashes just before, or just after, the provider has been asked."""

    def __init__(self, adyen: AdyenPayments) -> None:
        self._adyen = adyen
        self.trap = NO_TRAP

    async def ask(self, request: PaymentRequest) -> Answer:
        sprung = self.trap.springs(request)
        if sprung and self.trap.kind == "crash before the call":
            await self.trap.crash()
        answer = await self._adyen.ask(request)
        if sprung and self.trap.kind in {"crash after the call", "crash before the append"}:
            await self.trap.crash()
        return answer


class MemorySecrets:
    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Details] = {}

    async def put(self, checkout_id: str, name: str, secrets: Details) -> None:
        self.kept[checkout_id, name] = secrets

    async def get(self, checkout_id: str, name: str) -> Details | None:
        return self.kept.get((checkout_id, name))

    async def forget(self, checkout_id: str) -> None:
        self.kept = {key: value for key, value in self.kept.items() if key[0] != checkout_id}

    async def forget_older(self, before: datetime) -> None:
        """Nothing here is old."""


@dataclass
class Till:
    log: FailingLog
    keyring: MemoryKeyring
    secrets: MemorySecrets
    payments: FailingPayments
    stand_in: StandIn
    receiver: Receiver
    crashes: int = 0
    clock_set_by: timedelta = timedelta()
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    _crashed: asyncio.Event = field(default_factory=asyncio.Event)

    def fail_at_the_log(self, kind: str, here: Callable[[Any], bool], seconds: float) -> None:
        self.log.trap = Trap(kind, here, seconds, crashed=self._crashed)

    def fail_at_the_call(self, kind: str, here: Callable[[Any], bool]) -> None:
        self.payments.trap = Trap(kind, here, crashed=self._crashed)

    def crash(self) -> None:
        self._crashed.set()

    @classmethod
    @asynccontextmanager
    async def open(cls, stand_in: StandIn, receiver: Receiver) -> AsyncIterator[Self]:
        """On a stand-in that runs; its books may hold other tills' payments too."""
        adyen = AdyenPayments(
            stand_in.url,
            API_KEY,
            ACCOUNT,
            return_url="https://shop.example/",
            answer_seconds=ANSWER_SECONDS,
        )
        keyring = MemoryKeyring()
        for person in (BUYER, SELLER):
            await keyring.create(person)
        till = cls(
            FailingLog(), keyring, MemorySecrets(), FailingPayments(adyen), stand_in, receiver
        )
        supervisor = asyncio.create_task(till._keep_running())
        try:
            yield till
        finally:
            supervisor.cancel()
            await till._end()
            adyen.close()

    def now(self) -> datetime:
        """The clock of the worker, which may jump."""
        return datetime.now(UTC) + self.clock_set_by

    def executor(self) -> Executor:
        """With a memory of its own, like that of another process."""
        return Executor(self.log, self.keyring, DECIDERS, self.now)

    async def execute(self, *commands: Command) -> None:
        while True:
            with contextlib.suppress(LogUnavailable):
                await self.executor().execute(*commands)
                return
            await asyncio.sleep(0.02)

    async def state(self, stream: str) -> Any:
        return (await self.executor().state(stream, fresh=True)).value

    # The worker.

    async def _keep_running(self) -> None:
        while True:
            self._crashed.clear()
            self._start()
            await self._crashed.wait()
            self.crashes += 1
            await self._end()

    def _start(self) -> None:
        writer = SingleWriter(self.log, self.keyring, DECIDERS, self.now)
        sagas = Sagas([checkout.SAGA, returns.SAGA], writer, self.payments, self.secrets, self.now)
        self._run(sagas.run())
        self._run(self._follow(sagas.processes()))
        self._run(self._deliver())

    def _run(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _end(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, processes: Sequence[Process]) -> None:
        """Every event, from the first one: what was reacted to before must be harmless."""
        after = 0
        while True:
            for recorded in await self.log.read(after, 100):
                await self._react(processes, recorded)
                after = recorded.position
            await self.log.wait(after, 1.0)

    async def _react(self, processes: Sequence[Process], recorded: Recorded) -> None:
        for process in processes:
            if type(recorded.event) not in process.handles:
                continue
            while True:
                with contextlib.suppress(LogUnavailable):
                    await process.react(recorded)
                    break
                await asyncio.sleep(0.02)

    async def _deliver(self) -> None:
        """The webhook endpoint: what the provider sends is stored."""
        notifications = AdyenNotifications(HMAC_KEY)
        seen = 0
        while True:
            for envelope in self.receiver.envelopes[seen:]:
                with contextlib.suppress(NotificationUnsigned):
                    for item in notifications.read(envelope):
                        await self.execute(RecordNotification(notification=item))
                seen += 1
            await asyncio.sleep(0.01)

    # Shoppers.

    async def product(self, units: int = UNITS) -> str:
        product_id = new_id()
        await self.execute(
            ListProduct(
                product_id=product_id,
                shop_id=SHOP,
                seller_id=SELLER,
                title="Mug",
                description="",
                category="Kitchen",
                price=PRICE,
            ),
            ReceiveStock(product_id=product_id, quantity=units, reference="first"),
        )
        return product_id

    async def buy(
        self, product_id: str, quantity: int = 1, method: Mapping[str, str] | None = None
    ) -> str:
        """Start a checkout as the command service does."""
        checkout_id, order_id = new_id(), new_id()
        item = CartItem(product_id=product_id, quantity=quantity, seen_price=PRICE)
        line = OrderLine(product_id=product_id, quantity=quantity, price=PRICE)
        order = CheckoutOrder(order_id=order_id, shop_id=SHOP, seller_id=SELLER, lines=(line,))
        buyer = new_id()
        await self.keyring.create(buyer)
        await self.secrets.put(
            checkout_id, PAYMENT_SECRETS, {"paymentMethod": dict(method or card())}
        )
        await self.execute(PutCartItem(member_id=buyer, item=item))
        await self.execute(
            StartCheckout(
                checkout_id=checkout_id,
                member_id=buyer,
                orders=(order,),
                shipping_address="{}",
                hold_seconds=600,
            ),
            CheckOutCart(member_id=buyer, checkout_id=checkout_id, items=(item,)),
        )
        return checkout_id

    async def finished(self, checkout_id: str, wait_seconds: float = WAIT_SECONDS) -> str:
        """The status in which a checkout ends, once nothing is left to do for it."""
        async with asyncio.timeout(wait_seconds):
            while True:
                state = await self.state(checkout_stream(checkout_id))
                if state.status in FINAL and not state.open_calls and not state.unwanted:
                    return str(state.status)
                await asyncio.sleep(0.02)

    async def without_a_word(self, stream: str, tries: int) -> Any:
        """The state of a checkout or an order that has asked so often again for what the provider
        accepted, a capture or a refund."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                state = await self.state(stream)
                calls = state.calls if isinstance(state, Checkout) else state.refunds
                if any(c.status == "accepted" and c.tries >= tries for c in calls.values()):
                    return state
                await asyncio.sleep(0.02)

    async def paid_back(self, order_id: str) -> None:
        """Wait until everything that was captured for an order is refunded."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.state(order_stream(order_id))).payment_status != "refunded":  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def paid(self, checkout_id: str) -> list[dict[str, Any]]:
        payments = self.stand_in.books()["payments"]
        return [payment for payment in payments if payment["reference"] == checkout_id]

    async def check(
        self,
        product_id: str,
        checkouts: Mapping[str, str],
        quantity: int = 1,
        received: int = UNITS,
    ) -> None:
        """The provider's books say what the log says, and the shelf adds up."""
        confirmed = [id_ for id_, status in checkouts.items() if status == "confirmed"]
        captured = 0
        for checkout_id in checkouts:
            payments = self.paid(checkout_id)
            moved = [m for p in payments for m in p["movements"] if not m["failed"]]
            taken = sum(m["value"] for m in moved if m["kind"] == "capture")
            held = [p for p in payments if p["state"] == "authorised" and not taken]
            assert held == [], f"{checkout_id} is authorised and forgotten"
            assert len([p for p in payments if p["state"] == "authorised"]) <= 1
            captured += taken
        assert captured == len(confirmed) * quantity * PRICE.value
        item = await self.state(stock_stream(product_id))
        assert item.reservations == {}
        history = await self.log.load(stock_stream(product_id))
        state = STOCK.initial
        for one in history:
            state = STOCK.evolve(state, one.event)  # type: ignore[arg-type]
            assert state.available >= 0
        assert state.on_hand == received - len(confirmed) * quantity


def reserves(events: Sequence[Recorded]) -> bool:
    return any(isinstance(one.event, ItemsReserved) for one in events)


def creates_orders(events: Sequence[Recorded]) -> bool:
    return any(isinstance(one.event, OrdersCreated) for one in events)


def authorises(request: PaymentRequest) -> bool:
    return isinstance(request, Authorise)


def captures(request: PaymentRequest) -> bool:
    return isinstance(request, Capture)


@asynccontextmanager
async def running_stand_in(folder: Any) -> AsyncIterator[tuple[StandIn, Receiver]]:
    with receiving() as receiver:
        stand_in = start_stand_in(folder, receiver.url)
        try:
            yield stand_in, receiver
        finally:
            stand_in.server.stop()
