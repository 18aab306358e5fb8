"""What can be asked of an order."""

from datetime import datetime
from typing import ClassVar

from domain.commerce.order.events import OrderLine, ReturnedItem
from domain.shared.message import Command


class CreateOrder(Command, frozen=True, kw_only=True):
    creates: ClassVar[bool] = True
    order_id: str
    checkout_id: str
    member_id: str
    shop_id: str
    seller_id: str
    lines: tuple[OrderLine, ...]
    psp_reference: str


class ConfirmOrder(Command, frozen=True, kw_only=True):
    order_id: str


class RejectOrder(Command, frozen=True, kw_only=True):
    order_id: str
    because_of: str


class CancelOrder(Command, frozen=True, kw_only=True):
    """The buyer asks."""

    order_id: str
    member_id: str


class ShipOrder(Command, frozen=True, kw_only=True):
    """The seller says so."""

    order_id: str
    member_id: str
    carrier: str
    tracking_number: str


class DeliverOrder(Command, frozen=True, kw_only=True):
    """The seller says so."""

    order_id: str
    member_id: str


class ReturnItems(Command, frozen=True, kw_only=True):
    """The buyer asks."""

    order_id: str
    member_id: str
    return_id: str
    items: tuple[ReturnedItem, ...]
    reason: str


class RecordRestocked(Command, frozen=True, kw_only=True):
    order_id: str
    reference: str


class RecordCaptureReversed(Command, frozen=True, kw_only=True):
    """`final`: both attempts failed. What is not shipped yet is then cancelled."""

    order_id: str
    final: bool


class RecordCaptureRepeated(Command, frozen=True, kw_only=True):
    order_id: str


class AskRefund(Command, frozen=True, kw_only=True):
    order_id: str
    refund_id: str


class RecordRefundUnanswered(Command, frozen=True, kw_only=True):
    order_id: str
    refund_id: str
    reason: str
    retry_at: datetime


class RecordRefundAccepted(Command, frozen=True, kw_only=True):
    order_id: str
    refund_id: str
    psp_reference: str
    settles_at: datetime


class RecordRefundUnconfirmed(Command, frozen=True, kw_only=True):
    """An accepted refund was asked again, for want of a word."""

    order_id: str
    refund_id: str
    said: str
    retry_at: datetime


class RecordRefunded(Command, frozen=True, kw_only=True):
    """`refund_id` may be empty: then the refund is found by its reference."""

    order_id: str
    refund_id: str
    psp_reference: str


class RecordRefundFailed(Command, frozen=True, kw_only=True):
    """`refund_id` may be empty: then the refund is found by its reference."""

    order_id: str
    refund_id: str
    psp_reference: str
    reason: str


OrderCommand = (
    CreateOrder
    | ConfirmOrder
    | RejectOrder
    | CancelOrder
    | ShipOrder
    | DeliverOrder
    | ReturnItems
    | RecordRestocked
    | RecordCaptureReversed
    | RecordCaptureRepeated
    | AskRefund
    | RecordRefundUnanswered
    | RecordRefundAccepted
    | RecordRefundUnconfirmed
    | RecordRefunded
    | RecordRefundFailed
)
