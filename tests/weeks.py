"""Some weeks on a square: people join, come back less and less, and buy what posts show.

`python -m tests.weeks` draws the picture of docs/history.md from them.
"""

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

from domain.commerce.cart.events import CartItem, CartItemPut
from domain.commerce.order.events import OrderConfirmed, OrderCreated, OrderLine
from domain.events import AnyEvent
from domain.shared.identifiers import id_text
from domain.shared.money import Money
from domain.shared.personal import Personal
from domain.social.engagement.events import PostLiked
from domain.social.member.events import MemberRegistered
from domain.social.post.events import PostPublished
from domain.social.relation.events import Followed, Unfollowed
from domain.social.session.events import SessionStarted
from infra.adapters.archives.export_folder import Asked
from infra.composition.operations.exporting import export_events
from infra.composition.settings import Settings
from infra.ports.log import Recorded
from infra.servers.postgres import start_postgres
from tests.integration.tables import write_log

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
PRICE = Money(currency="EUR", value=1_500)
EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "analysis.py"
PICTURE = Path(__file__).parents[1] / "docs" / "retention.png"


@dataclass
class Weeks:
    """Recorded times rise with positions; every visit is a day's."""

    seed: int
    members: int = 300
    weeks: int = 6
    dice: random.Random = field(init=False)
    happened: list[tuple[datetime, AnyEvent]] = field(default_factory=list)
    posts: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def history(self) -> list[Recorded]:
        end = MONDAY + timedelta(weeks=self.weeks)
        for number in range(self.members):
            member = id_text(1_000 + number)
            joined = MONDAY + timedelta(weeks=self.weeks * self.dice.random() ** 1.3)
            self.tell(joined, registered(member, joined))
            day, interest = joined, self.dice.uniform(0.3, 1.0)
            while day < end:
                if self.dice.random() < interest:
                    self.visit(member, day)
                day += timedelta(days=1, minutes=self.dice.randrange(-300, 300))
                interest *= 0.93
        self.happened.sort(key=lambda one: one[0])
        return [
            Recorded(
                stream=f"weeks:{position}",
                version=1,
                recorded_at=at,
                event=event,
                position=position,
            )
            for position, (at, event) in enumerate(self.happened, start=1)
        ]

    def tell(self, at: datetime, event: AnyEvent) -> None:
        self.happened.append((at, event))

    def visit(self, member: str, at: datetime) -> None:
        dice = self.dice
        other = id_text(1_000 + int(self.members * dice.random() ** 2))
        self.tell(at, SessionStarted(session_id=self.id(), member_id=member, expires_at=at))
        minute = timedelta(minutes=1)
        if dice.random() < 0.5 and other != member:
            kind = Followed if dice.random() < 0.85 else Unfollowed
            self.tell(at + minute, kind(follower_id=member, followee_id=other))
        if dice.random() < 0.3:
            shown = tuple(dice.sample(["p1", "p2", "p3"], dice.choice([0, 0, 1, 2])))
            post = PostPublished(
                post_id=self.id(),
                author_id=member,
                content=Personal(),
                created_at=at,
                product_ids=shown,
            )
            self.posts.append((post.post_id, shown))
            self.tell(at + 2 * minute, post)
        if self.posts and dice.random() < 0.6:
            post_id, shown = dice.choice(self.posts)
            self.tell(
                at + 3 * minute, PostLiked(post_id=post_id, author_id=other, member_id=member)
            )
            if dice.random() < 0.4:
                self.buy(member, dice.choice(shown or ("p4",)), post_id, at + 4 * minute)
        elif dice.random() < 0.1:
            self.buy(member, "p4", None, at + 4 * minute)

    def buy(self, member: str, product: str, post: str | None, at: datetime) -> None:
        """Put into the cart, often ordered, mostly paid. A product that the post does not show may
        be said to come from it: nobody checks what a client says."""
        item = CartItem(product_id=product, quantity=1, seen_price=PRICE, source_post_id=post)
        self.tell(at, CartItemPut(member_id=member, item=item))
        if self.dice.random() < 0.5:
            return
        line = OrderLine(product_id=product, quantity=2, price=PRICE, source_post_id=post)
        order = OrderCreated(
            order_id=self.id(),
            checkout_id=self.id(),
            member_id=member,
            shop_id="s",
            seller_id="m",
            lines=(line,),
            total=Money(currency="EUR", value=2 * PRICE.value),
            psp_reference="P",
        )
        self.tell(at + timedelta(seconds=5), order)
        if self.dice.random() < 0.8:
            paid = OrderConfirmed(order_id=order.order_id, member_id=member, captured=order.total)
            self.tell(at + timedelta(seconds=9), paid)

    def id(self) -> str:
        return id_text(10**6 + next(self.numbers))


def registered(member: str, at: datetime) -> MemberRegistered:
    return MemberRegistered(
        member_id=member,
        username_key=f"key-{member}",
        username=Personal(),
        display_name=Personal(),
        bio=Personal(),
        email=Personal(),
        created_at=at,
    )


async def exported(postgres_url: str, weeks: Weeks, folder: Path) -> list[Recorded]:
    """Their events in a log, and that as an export."""
    events = weeks.history()
    await write_log(postgres_url, events)
    await export_events(Settings(postgres_url=postgres_url), folder, Asked(typed=True))
    return events


def draw() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        server, url = start_postgres(folder / "postgres")
        try:
            uvloop.run(exported(url, Weeks(seed=5, members=1_200, weeks=9), folder / "export"))
        finally:
            server.stop()
        words = [sys.executable, *map(str, (EXAMPLE, folder / "export", "--plot", PICTURE))]
        subprocess.run(words, check=True)


if __name__ == "__main__":
    draw()
