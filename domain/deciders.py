"""Every command there is, and the aggregate that decides it."""

from typing import Any, get_args

from domain.commerce.cart.commands import CartCommand
from domain.commerce.cart.decider import CART
from domain.commerce.checkout.commands import CheckoutCommand
from domain.commerce.checkout.decider import CHECKOUT
from domain.commerce.order.commands import OrderCommand
from domain.commerce.order.decider import ORDER
from domain.commerce.payment.commands import PaymentCommand
from domain.commerce.payment.decider import NOTIFICATION
from domain.commerce.product.commands import ProductCommand
from domain.commerce.product.decider import PRODUCT
from domain.commerce.shop.commands import ShopCommand
from domain.commerce.shop.decider import SHOP
from domain.commerce.stock.commands import StockCommand
from domain.commerce.stock.decider import STOCK
from domain.shared.decider import Decider
from domain.social.engagement.commands import LikeCommand, RepostCommand
from domain.social.engagement.decider import LIKE, REPOST
from domain.social.member.commands import MemberCommand, UsernameCommand
from domain.social.member.decider import MEMBER, USERNAME
from domain.social.post.commands import PostCommand
from domain.social.post.decider import POST
from domain.social.relation.commands import RelationCommand
from domain.social.relation.decider import RELATION
from domain.social.session.commands import SessionCommand
from domain.social.session.decider import SESSION

DECIDERS: dict[type, Decider[Any, Any, Any]] = {
    **dict.fromkeys(get_args(MemberCommand), MEMBER),
    **dict.fromkeys(get_args(UsernameCommand), USERNAME),
    **dict.fromkeys(get_args(SessionCommand), SESSION),
    **dict.fromkeys(get_args(RelationCommand), RELATION),
    **dict.fromkeys(get_args(PostCommand), POST),
    **dict.fromkeys(get_args(LikeCommand), LIKE),
    **dict.fromkeys(get_args(RepostCommand), REPOST),
    ShopCommand: SHOP,
    **dict.fromkeys(get_args(ProductCommand), PRODUCT),
    **dict.fromkeys(get_args(StockCommand), STOCK),
    **dict.fromkeys(get_args(CartCommand), CART),
    **dict.fromkeys(get_args(CheckoutCommand), CHECKOUT),
    **dict.fromkeys(get_args(OrderCommand), ORDER),
    PaymentCommand: NOTIFICATION,
}
