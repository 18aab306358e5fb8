"""Which documents of the search indices an event changes, and how soon that has to show.

What the documents then say is read from the tables that are folded from the same events.
"""

from typing import assert_never, get_args

from domain.commerce.product import events as product
from domain.commerce.stock import events as stock
from domain.shared.identifiers import id_number, known_id_number
from domain.social.engagement import events as engagement
from domain.social.member import events as member
from domain.social.post import events as post
from domain.social.relation import events as relation
from infra.ports.log import Recorded
from infra.ports.search import SearchProjection, Touched
from infra.ports.search_documents import MEMBERS, POSTS, PRODUCTS

PostChanging = post.PostEvent | engagement.EngagementEvent | member.MemberErased
MemberChanging = member.MemberEvent | relation.Followed | relation.Unfollowed
ProductChanging = product.ProductEvent | stock.StockEvent


def touched_post(recorded: Recorded) -> Touched:
    event: PostChanging = recorded.event  # type: ignore[assignment]
    match event:
        case post.PostPublished() | post.PostDeleted():
            # The post that it answers has one reply more, or less.
            answered = event.reply_to
            counted = () if answered is None else (known_id_number(answered.post_id),)
            return Touched((known_id_number(event.post_id),), later=counted)
        case member.MemberErased():
            return Touched(author=known_id_number(event.member_id), erased=event.member_id)
        case (
            engagement.PostLiked()
            | engagement.PostUnliked()
            | engagement.PostReposted()
            | engagement.RepostRemoved()
        ):
            return Touched(later=(known_id_number(event.post_id),))
        case _:
            assert_never(event)


def touched_member(recorded: Recorded) -> Touched:
    event: MemberChanging = recorded.event  # type: ignore[assignment]
    match event:
        case member.MemberRegistered() | member.ProfileChanged():
            return Touched((known_id_number(event.member_id),))
        case member.MemberErased():
            return Touched((known_id_number(event.member_id),), erased=event.member_id)
        case relation.Followed() | relation.Unfollowed():
            return Touched(later=(known_id_number(event.followee_id),))
        case _:
            assert_never(event)


def touched_product(recorded: Recorded) -> Touched:
    event: ProductChanging = recorded.event  # type: ignore[assignment]
    key = (id_number(event.product_id),)
    match event:
        case (
            product.ProductListed()
            | product.ProductDescribed()
            | product.PriceChanged()
            | product.ProductWithdrawn()
            | product.ProductOffered()
        ):
            return Touched(key)
        case (
            stock.StockReceived()
            | stock.StockReserved()
            | stock.ReservationReleased()
            | stock.ReservationExpired()
        ):
            return Touched(later=key)
        case stock.ReservationCommitted():
            # What can be bought went down when it was reserved.
            return Touched()
        case _:
            assert_never(event)


SEARCH_POSTS = SearchProjection(
    index=POSTS,
    handles=frozenset(
        {*get_args(post.PostEvent), *get_args(engagement.EngagementEvent), member.MemberErased}
    ),
    reads=("posts", "engagement", "members"),
    touch=touched_post,
)

SEARCH_MEMBERS = SearchProjection(
    index=MEMBERS,
    handles=frozenset({*get_args(member.MemberEvent), relation.Followed, relation.Unfollowed}),
    reads=("members", "graph"),
    touch=touched_member,
)

SEARCH_PRODUCTS = SearchProjection(
    index=PRODUCTS,
    handles=frozenset({*get_args(product.ProductEvent), *get_args(stock.StockEvent)}),
    reads=("products", "availability"),
    touch=touched_product,
)

SOCIAL_SEARCH = (SEARCH_POSTS, SEARCH_MEMBERS)
COMMERCE_SEARCH = (SEARCH_PRODUCTS,)
SEARCH = {projection.name: projection for projection in (*SOCIAL_SEARCH, *COMMERCE_SEARCH)}
