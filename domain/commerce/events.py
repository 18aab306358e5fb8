"""Every event of the commerce half."""

from domain.commerce.cart.events import CartEvent
from domain.commerce.checkout.events import CheckoutEvent
from domain.commerce.order.events import OrderEvent
from domain.commerce.payment.events import PaymentEvent
from domain.commerce.product.events import ProductEvent
from domain.commerce.shop.events import ShopEvent
from domain.commerce.stock.events import StockEvent

CommerceEvent = (
    ShopEvent | ProductEvent | StockEvent | CartEvent | CheckoutEvent | OrderEvent | PaymentEvent
)
