"""What the pages of the commerce half are made of, and the port that fetches it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from infra.ports.log import OPEN
from infra.ports.reads import Checkpoints

PROJECTIONS = ("products", "availability", "carts", "checkouts", "orders", "demand")


class ProductRow(NamedTuple):
    """A product as of some position; `available` may be bought then. What the seller wrote is
    sealed, and null once the seller is erased."""

    product_id: int
    shop_id: int
    seller_id: int
    shop_name: bytes | None
    title: bytes | None
    description: bytes | None
    category: str
    currency: str
    price: int
    media_urls: bytes | None
    attributes: bytes | None
    for_sale: bool
    available: int


class CartRow(NamedTuple):
    product_id: int
    quantity: int
    seen_currency: str
    seen_price: int
    source_post_id: str | None


class CheckoutRow(NamedTuple):
    checkout_id: int
    member_id: int
    order_ids: Sequence[str]
    status: str
    action: str | None
    failure_code: str | None
    failure_detail: str | None


class OrderRow(NamedTuple):
    """`lines` is JSON; `problem` is `capture_failed` or `refund_failed` where there is one."""

    order_id: int
    checkout_id: int
    member_id: int
    seller_id: int
    shop_id: int
    status: str
    lines: str
    currency: str
    total: int
    captured: int
    refunded: int
    carrier: str | None
    tracking_number: str | None
    problem: str | None


class TitleRow(NamedTuple):
    """What a product of an order was called when it was bought, sealed."""

    order_id: int
    product_id: int
    seller_id: int
    title: bytes | None


class Moment(NamedTuple):
    """That something came to be so: a step of a checkout, or an order's status."""

    name: str
    status: str
    at: datetime


@dataclass(frozen=True)
class ProductFilter:
    """None where it does not matter. Prices are in minor units, inclusive."""

    category: str | None = None
    shop_id: int | None = None
    price_min: int | None = None
    price_max: int | None = None
    available: bool | None = None


class Problem(NamedTuple):
    """Something that an operator has to look at."""

    checkout_id: int
    order_id: int | None
    problem: str


class CommerceReads(Checkpoints, Protocol):
    """The read tables of the commerce half."""

    async def products(
        self, product_ids: Collection[int], position: int = OPEN
    ) -> Sequence[ProductRow]:
        """These products, as they are now or were at a position; withdrawn ones too."""
        ...

    async def products_before(
        self, product_id: int, wanted: ProductFilter, limit: int, position: int = OPEN
    ) -> Sequence[ProductRow]:
        """Products for sale whose id is less than this one's, newest first."""
        ...

    async def cart(self, member_id: int) -> Sequence[CartRow]: ...

    async def checkout(self, checkout_id: int) -> tuple[CheckoutRow, Sequence[Moment]] | None:
        """A checkout and what became of its steps, oldest first."""
        ...

    async def order(self, order_id: int) -> tuple[OrderRow, Sequence[Moment]] | None: ...

    async def orders_before(
        self, order_id: int, limit: int, *, buyer_id: int | None, seller_id: int | None
    ) -> Sequence[tuple[OrderRow, Sequence[Moment]]]:
        """Orders of this buyer, or at this seller, whose id is less than this one's, newest first,
        each with its history."""
        ...

    async def titles(self, bought: Collection[tuple[int, int]]) -> Sequence[TitleRow]:
        """What these products (order, product) were called when they were bought."""
        ...

    async def checkouts_of(self, status: str | None, limit: int) -> Sequence[tuple[int, str, int]]:
        """Newest checkouts, in this status or any: id, status, member."""
        ...

    async def problems(self) -> Sequence[Problem]:
        """Captures, refunds and cancels that failed for good, and captures and refunds that the
        provider accepted and of which it has told nothing since, though it was asked again."""
        ...

    async def happened(self, after: int, last: int) -> bool:
        """Whether anything happened in the commerce half after a position, up to another one."""
        ...

    async def position_at(self, moment: datetime) -> int:
        """The position of the newest event recorded at or before a moment; 0 if there is none."""
        ...

    async def head(self) -> int: ...


class WorkRow(NamedTuple):
    kind: str
    subject: str
    task: str
    due_at: datetime | None


class OpenWork(Protocol):
    """What processes have still to do, for one that starts again."""

    async def rows(self) -> tuple[Sequence[WorkRow], int]:
        """What is open, and the position up to which that is known. Raises `LogUnavailable`."""
        ...
